import { Group, Progress, Text } from "@mantine/core";

/** How much of something is used. `tight`: it is nearly all of it. */
export function Gauge({ name, part, value, tight = false }: { name: string; part: number; value: string; tight?: boolean }) {
  return (
    <div>
      <Group justify="space-between" gap="xs">
        <Text size="sm" c="dimmed">
          {name}
        </Text>
        <Text size="sm" className="figures">
          {value}
        </Text>
      </Group>
      <Progress
        value={Math.min(100, Math.max(0, 100 * part))} size="sm" color={tight ? "red" : "teal"}
        aria-label={name}
      />
    </div>
  );
}
