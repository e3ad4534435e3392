import { ActionIcon, Menu } from "@mantine/core";
import {
  IconDots, IconDownload, IconPlayerPause, IconPlayerPlay, IconPlayerStop, IconRefresh,
  IconRepeat, IconTrash,
} from "@tabler/icons-react";
import { useTranslation } from "react-i18next";
import { Link } from "react-router";
import type { Shapes } from "../../api/client";
import {
  canCancel, canPause, canResume, canRetry, filmOf, hasEnded, useJobActions,
} from "../../components/jobActions";

const SIZE = { size: 16, "aria-hidden": true } as const;

/** What is often done with a job, without opening it. */
export function JobMenu({ job }: { job: Shapes["Job"] }) {
  const { t } = useTranslation("queue");
  const { busy, pause, resume, retry, askCancel, askRemove } = useJobActions(job);
  const film = filmOf(job);
  return (
    <Menu position="bottom-end" withInitialFocusPlaceholder={false}>
      <Menu.Target>
        <ActionIcon
          variant="subtle" color="gray" loading={busy} aria-label={t("actions", { name: job.name })}
        >
          <IconDots size={18} aria-hidden />
        </ActionIcon>
      </Menu.Target>
      <Menu.Dropdown>
        {film && (
          <Menu.Item component="a" href={film} download leftSection={<IconDownload {...SIZE} />}>
            {t("do.download")}
          </Menu.Item>
        )}
        {film && (
          <Menu.Item
            component={Link} to={`/new?asset=${job.result}`} leftSection={<IconRepeat {...SIZE} />}
          >
            {t("do.goOn")}
          </Menu.Item>
        )}
        {canPause(job) && (
          <Menu.Item onClick={pause} leftSection={<IconPlayerPause {...SIZE} />}>
            {t("do.pause")}
          </Menu.Item>
        )}
        {canResume(job) && (
          <Menu.Item onClick={resume} leftSection={<IconPlayerPlay {...SIZE} />}>
            {t("do.resume")}
          </Menu.Item>
        )}
        {canRetry(job) && (
          <Menu.Item onClick={retry} leftSection={<IconRefresh {...SIZE} />}>
            {t("do.retry")}
          </Menu.Item>
        )}
        {canCancel(job) && (
          <Menu.Item c="var(--mantine-color-red-text)" onClick={askCancel} leftSection={<IconPlayerStop {...SIZE} />}>
            {t("do.cancel")}
          </Menu.Item>
        )}
        {hasEnded(job) && (
          <Menu.Item c="var(--mantine-color-red-text)" onClick={askRemove} leftSection={<IconTrash {...SIZE} />}>
            {t("do.remove")}
          </Menu.Item>
        )}
      </Menu.Dropdown>
    </Menu>
  );
}
