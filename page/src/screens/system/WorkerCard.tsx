import { Anchor, Badge, Button, Group, Paper, Stack, Text } from "@mantine/core";
import {
  IconAlertTriangle, IconCircleDashed, IconCpu, IconDeviceDesktopAnalytics, IconPlayerPause, IconPlayerPlay, IconPlugX,
} from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { useTranslation } from "react-i18next";
import { Link } from "react-router";
import { api, body } from "../../api/client";
import { bytes, duration, number } from "../../lib/format";
import { isSilent, type Worker } from "../../lib/workers";
import { Gauge } from "./Gauge";
import { useDraining } from "./queries";

const LOOKS = {
  idle: [IconCircleDashed, "var(--mantine-color-dimmed)"],
  busy: [IconPlayerPlay, "var(--mantine-color-teal-text)"],
  draining: [IconPlayerPause, "var(--mantine-color-yellow-text)"],
  drained: [IconPlayerPause, "var(--mantine-color-yellow-text)"],
  silent: [IconAlertTriangle, "var(--mantine-color-red-text)"],
  gone: [IconPlugX, "var(--mantine-color-dimmed)"],
} as const;

function standing(worker: Worker, now: number): keyof typeof LOOKS {
  if (worker.drained !== null)
    return worker.state === "gone" || isSilent(worker, now) ? "drained" : "draining";
  return isSilent(worker, now) ? "silent" : worker.state;
}

/** One worker: what it does, on what, and how its machine fares. */
export function WorkerCard({ worker, now, admin }: { worker: Worker; now: number; admin: boolean }) {
  const { t, i18n } = useTranslation("system");
  const { drain, undrain } = useDraining(worker.id);
  const state = standing(worker, now);
  const [Icon, color] = LOOKS[state];
  const Kind = worker.gpu ? IconDeviceDesktopAnalytics : IconCpu;
  const device = worker.gpu?.name ?? worker.machine?.cpu ?? worker.device;
  const works = state === "idle" || state === "busy";
  const heard = duration(Math.max(0, Math.round((now - worker.beat) / 1e6)), i18n.language);
  return (
    <Paper withBorder p="sm" component="article" aria-label={worker.id} data-state={state}>
      <Stack gap="xs">
        <Group justify="space-between" gap="xs" align="flex-start" wrap="nowrap">
          <div style={{ minWidth: 0 }}>
            <Text fw={600} size="sm" style={{ overflowWrap: "anywhere" }}>
              {worker.id}
            </Text>
            <Group gap={6} wrap="nowrap" c="dimmed">
              <Kind size={14} aria-hidden style={{ flexShrink: 0 }} />
              <Text size="sm" style={{ overflowWrap: "anywhere" }}>
                {device}
                {worker.gpu && ` (${worker.device})`}
              </Text>
            </Group>
          </div>
          <Badge
            variant="default" size="lg" tt="none" fw={600} px="xs" style={{ flexShrink: 0 }}
            leftSection={<Icon size={15} color={color} aria-hidden />}
          >
            {t(`worker.${state}`)}
          </Badge>
        </Group>
        {works && <Doing worker={worker} />}
        {state !== "gone" && state !== "drained" && <Gauges worker={worker} />}
        <Group justify="space-between" gap="xs" mih={30}>
          <Text size="xs" c="dimmed" className="figures">
            {t("worker.heard", { time: heard })} · {t("worker.version", { version: worker.version })}
          </Text>
          {admin && worker.drained !== null && (
            <Button size="compact-sm" variant="default" loading={undrain.isPending} onClick={() => undrain.mutate()}>
              {t("worker.undrain")}
            </Button>
          )}
          {admin && works && (
            <Button size="compact-sm" variant="default" loading={drain.isPending} onClick={() => drain.mutate()} title={t("worker.drainHelp")}>
              {t("worker.drain")}
            </Button>
          )}
        </Group>
      </Stack>
    </Paper>
  );
}

function Doing({ worker }: { worker: Worker }) {
  const { t } = useTranslation("system");
  const [id = "", step = ""] = (worker.state === "busy" && worker.doing?.split("/")) || [];
  const job = useQuery({
    queryKey: ["job", id, "now"],
    enabled: id !== "",
    queryFn: () => body(api.GET("/api/v1/jobs/{name}", { params: { path: { name: id } } })),
  });
  if (worker.telemetry?.waits) return <Text size="sm">{worker.telemetry.waits}</Text>;
  if (id === "") return <Text size="sm" c="dimmed">{t("worker.nothing")}</Text>;
  const what = step === "-1" ? t("worker.plans") : t("worker.step", { number: step });
  if (job.isError) return <Text size="sm">{t("worker.others")}</Text>;
  return (
    <Text size="sm" style={{ overflowWrap: "anywhere" }}>
      {what}{" "}
      <Anchor component={Link} to={`/jobs/${id}`} inherit>
        {job.data?.name ?? id}
      </Anchor>
    </Text>
  );
}

function Gauges({ worker }: { worker: Worker }) {
  const { t, i18n } = useTranslation("system");
  const told = worker.telemetry;
  if (!told) return null;
  const used = (all: number, free: number) => [bytes(all - free, i18n.language), bytes(all, i18n.language)] as const;
  const extra = [
    told.temperature !== null && t("gauge.temperature", { value: told.temperature }),
    told.watts !== null && t("gauge.watts", { value: number(told.watts, i18n.language) }),
  ].filter(Boolean);
  const vram = told.vram !== null && told.vram_free !== null ? used(told.vram, told.vram_free) : null;
  const ram = used(told.ram, told.ram_free);
  return (
    <Stack gap={4}>
      {told.load !== null && (
        <Gauge name={t("gauge.load")} part={told.load / 100} value={[`${told.load} %`, ...extra].join(" · ")} />
      )}
      {vram && told.vram !== null && told.vram_free !== null && (
        <Gauge name={t("gauge.vram")} part={1 - told.vram_free / told.vram} value={t("gauge.of", { used: vram[0], all: vram[1] })} />
      )}
      <Gauge name={t("gauge.ram")} part={1 - told.ram_free / told.ram} value={t("gauge.of", { used: ram[0], all: ram[1] })} />
    </Stack>
  );
}
