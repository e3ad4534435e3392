import { Alert, Button, Group, Progress, Stack, Text } from "@mantine/core";
import { IconAlertTriangle, IconPlayerStop } from "@tabler/icons-react";
import { useTranslation } from "react-i18next";
import { bytes, duration } from "../../lib/format";
import { progress } from "./progress";
import { type Model, type Pull, usePulling } from "./queries";

/** How far a pull is, or why it ended. */
export function PullBar({ model, pull, admin }: { model: Model; pull: Pull; admin: boolean }) {
  const { t } = useTranslation("weights");
  if (pull.state === "failed")
    return (
      <Alert color="red" variant="light" icon={<IconAlertTriangle aria-hidden />} title={t("failed")} role="alert">
        <Text size="sm" c="var(--mantine-color-text)" style={{ overflowWrap: "anywhere" }}>
          {pull.error}
        </Text>
        <Text size="sm" c="var(--mantine-color-text)" mt="xs" fw={600}>
          {t("keeps")}
        </Text>
      </Alert>
    );
  if (pull.state === "stopped") return <Text size="sm">{t("stopped")}</Text>;
  if (pull.state === "running") return <Running model={model} pull={pull} admin={admin} />;
  return null;
}

function Running({ model, pull, admin }: { model: Model; pull: Pull; admin: boolean }) {
  const { t, i18n } = useTranslation("weights");
  const { stop } = usePulling(model.name);
  const { here, of, left } = progress(model);
  const say = (count: number) => bytes(count, i18n.language);
  const facts = [
    of === null ? say(here) : t("partly", { here: say(here), of: say(of) }),
    pull.bytes_per_second > 0 && t("speed", { speed: say(pull.bytes_per_second) }),
    left !== null && t("left", { time: duration(Math.max(left, 1), i18n.language) }),
  ];
  return (
    <Stack gap={6}>
      <Group gap="sm" wrap="nowrap">
        <Progress
          value={of ? (100 * here) / of : 100} animated={!of} size="lg" style={{ flex: 1 }}
          aria-label={t("bar", { name: model.name })}
        />
        {admin && (
          <Button
            size="xs" variant="default" leftSection={<IconPlayerStop size={14} aria-hidden />}
            loading={stop.isPending} onClick={() => stop.mutate()}
          >
            {t("stop")}
          </Button>
        )}
      </Group>
      <Text size="sm" className="figures">
        {facts.filter(Boolean).join(" · ")}
      </Text>
      <Text size="sm" c="dimmed" style={{ overflowWrap: "anywhere" }}>
        {pull.file}
        {pull.note && ` – ${pull.note}`}
      </Text>
    </Stack>
  );
}
