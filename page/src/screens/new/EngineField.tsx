import { Anchor, Group, Radio, Stack, Text } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useTranslation } from "react-i18next";
import { Link } from "react-router";
import { api, body } from "../../api/client";
import type { Generator } from "./choices";
import classes from "./new.module.css";
import { useMissing } from "./weights";

interface Props {
  engines: Generator[];
  value: string;
  change: (engine: string) => void;
}

export function EngineField({ engines, value, change }: Props) {
  const { t } = useTranslation("new");
  return (
    <Radio.Group
      label={t("engine.label")} value={value} onChange={change}
    >
      <Stack gap={6} mt={3}>
        {engines.map((engine) => (
          <EngineCard key={engine.name} engine={engine} isChosen={engine.name === value} />
        ))}
      </Stack>
    </Radio.Group>
  );
}

function EngineCard({ engine, isChosen }: { engine: Generator; isChosen: boolean }) {
  const { t } = useTranslation("new");
  const missing = useMissing(engine.name);
  const noGpu = useNoGpu() && engine.devices[0] === "cuda";
  return (
    <div>
      <Radio.Card value={engine.name} className={classes.engine} aria-describedby={`about-${engine.name}`}>
        <Group wrap="nowrap" gap="sm" align="flex-start">
          <Radio.Indicator mt={1} />
          <div>
            <Text size="sm" fw={600}>
              {engine.name}
            </Text>
            <Text size="xs" c="dimmed" id={`about-${engine.name}`}>
              {t(`about.${engine.name}`, { defaultValue: engine.about })}
            </Text>
            {missing && (
              <Text size="xs" fw={500}>
                {t("engine.missing")}
              </Text>
            )}
            {noGpu && !missing && (
              <Text size="xs" fw={500}>
                {t("engine.noGpu")}
              </Text>
            )}
          </div>
        </Group>
      </Radio.Card>
      {missing && isChosen && (
        <Anchor component={Link} to="/weights" size="sm" mt={4} display="inline-block">
          {t("engine.get")}
        </Anchor>
      )}
    </div>
  );
}

/** Whether all workers that are there work on a CPU. */
function useNoGpu(): boolean {
  const workers = useQuery({ queryKey: ["workers"], queryFn: () => body(api.GET("/api/v1/workers")) });
  const there = workers.data?.workers.filter((one) => one.state !== "gone") ?? [];
  return there.length > 0 && there.every((one) => !one.device.startsWith("cuda"));
}
