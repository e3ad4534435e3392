import { Badge, type MantineSize } from "@mantine/core";
import {
  IconAlertTriangle, IconBan, IconCircleCheck, IconCircleHalf2, IconClock, IconListSearch,
  IconPlayerPause, IconPlayerPlay, IconPlayerStop, IconStack2,
} from "@tabler/icons-react";
import { useTranslation } from "react-i18next";
import type { Shapes } from "../api/client";
import { hasEnded } from "./jobActions";

type Job = Shapes["Job"];

/** The state that people see: a job that shall stop is stopping until it has. */
export const shownState = (job: Job) =>
  job.wish === "cancel" && !hasEnded(job) ? "cancelling" : job.state;

const LOOKS = {
  queued: [IconClock, "dimmed"],
  planning: [IconListSearch, "teal"],
  running: [IconPlayerPlay, "teal"],
  joining: [IconStack2, "teal"],
  paused: [IconPlayerPause, "yellow"],
  cancelling: [IconPlayerStop, "yellow"],
  succeeded: [IconCircleCheck, "green"],
  partial: [IconCircleHalf2, "yellow"],
  failed: [IconAlertTriangle, "red"],
  cancelled: [IconBan, "dimmed"],
} as const;

/** A job's state, by icon and word. */
export function StateBadge({ job, size = "lg" }: { job: Job; size?: MantineSize }) {
  const { t } = useTranslation();
  const state = shownState(job);
  const [Icon, color] = LOOKS[state];
  const ink = color === "dimmed" ? "var(--mantine-color-dimmed)" : `var(--mantine-color-${color}-text)`;
  return (
    <Badge
      variant="default" size={size} tt="none" fw={600} px="xs" data-state={state}
      leftSection={<Icon size={15} color={ink} aria-hidden />} style={{ flexShrink: 0 }}
    >
      {t(`state.${state}`)}
    </Badge>
  );
}
