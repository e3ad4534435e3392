import { ActionIcon, Anchor, Box, Button, Group, Menu, Stack, Text, Title } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import {
  IconArrowLeft, IconArrowUp, IconDotsVertical, IconDownload, IconPlayerPause, IconPlayerPlay,
  IconPlayerStop, IconPlus, IconRefresh, IconTrash,
} from "@tabler/icons-react";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import { Link, useNavigate } from "react-router";
import { address } from "../../api/client";
import {
  canCancel, canPause, canResume, canRetry, filmOf, hasEnded, useJobActions,
} from "../../components/jobActions";
import { StateBadge } from "../../components/StateBadge";
import { bytes } from "../../lib/format";
import { Priority } from "./Priority";
import { type Job, useAsset } from "./queries";

/** Which film, how it stands, and what can be done with it. */
export function Header({ job }: { job: Job }) {
  const { t } = useTranslation(["job", "common"]);
  return (
    <Stack gap="xs">
      <Anchor component={Link} to="/" size="sm" w="fit-content">
        <Group gap={4}>
          <IconArrowLeft size={14} aria-hidden /> {t("common:nav.queue")}
        </Group>
      </Anchor>
      <Group justify="space-between" align="flex-start" gap="sm">
        <Group gap="sm" wrap="nowrap" align="flex-start" style={{ flex: "1 1 340px", minWidth: 0 }}>
          {job.asset !== null && <Still key={job.asset} asset={job.asset} />}
          <Stack gap={2} style={{ minWidth: 0 }}>
            <Group gap="sm">
              <Title order={1} size="h3" style={{ overflowWrap: "anywhere" }}>
                {job.name}
              </Title>
              <StateBadge job={job} />
            </Group>
            <Source job={job} />
          </Stack>
        </Group>
        <Actions job={job} />
      </Group>
    </Stack>
  );
}

/** A picture of the source, where one can be had. */
function Still({ asset }: { asset: string }) {
  const [fails, setFails] = useState(false);
  if (fails) return null;
  return (
    <Box visibleFrom="sm" w={112} h={63} style={{ flexShrink: 0 }}>
      <img
        src={address(`assets/${asset}/thumb?width=224`)} alt="" width={112} height={63}
        style={{ objectFit: "cover", borderRadius: 4, display: "block" }} onError={() => setFails(true)}
      />
    </Box>
  );
}

function Source({ job }: { job: Job }) {
  const { t } = useTranslation("job");
  const source = useAsset(job.asset);
  if (job.parent !== null)
    return (
      <Anchor component={Link} to={`/jobs/${job.parent}`} size="sm" w="fit-content">
        {t("fromJob")}
      </Anchor>
    );
  if (job.task.kind === "generate")
    return (
      <Text size="sm" c="dimmed" lineClamp={2} title={job.task.prompt} style={{ overflowWrap: "anywhere" }}>
        {job.task.prompt}
      </Text>
    );
  if (!source.data && source.data !== null) return <Text size="sm">&nbsp;</Text>;
  return (
    <Text size="sm" c="dimmed" style={{ overflowWrap: "anywhere" }}>
      {source.data ? t("from", { name: source.data.name }) : t("fromGone")}
    </Text>
  );
}

/** Where a job of the same source, or of the same kind, is asked for. */
const again = ({ kind, asset }: Job) =>
  `/new?${new URLSearchParams({ ...(kind === "generate" ? { kind } : {}), ...(asset === null ? {} : { asset }) }).toString()}`;

function Actions({ job }: { job: Job }) {
  const { t, i18n } = useTranslation(["job", "common"]);
  const go = useNavigate();
  const [asks, { open, close }] = useDisclosure();
  const { busy, pause, resume, retry, askCancel, askRemove } = useJobActions(job, () => void go("/"));
  const film = filmOf(job);
  const made = useAsset(job.result);
  return (
    <Group gap="xs">
      {canRetry(job) && (
        <Button
          variant={film ? "default" : "filled"} leftSection={<IconRefresh size={16} aria-hidden />}
          onClick={retry} loading={busy} title={t("act.retryHelp")}
        >
          {t(job.state === "failed" ? "act.retry" : "act.goOn")}
        </Button>
      )}
      {film && (
        <Button component={Link} to={`/new?parent=${job.id}`} variant="default" leftSection={<IconPlus size={16} aria-hidden />}>
          {t("act.useFilm")}
        </Button>
      )}
      {film && (
        <Button component="a" href={film} download leftSection={<IconDownload size={16} aria-hidden />}>
          {t(job.state === "partial" ? "act.downloadPart" : "act.download")}
          {made.data && ` (${bytes(made.data.bytes, i18n.language)})`}
        </Button>
      )}
      {canResume(job) && (
        <Button leftSection={<IconPlayerPlay size={16} aria-hidden />} onClick={resume} loading={busy}>
          {t("act.resume")}
        </Button>
      )}
      {canPause(job) && (
        <Button variant="default" leftSection={<IconPlayerPause size={16} aria-hidden />} onClick={pause} loading={busy}>
          {t("act.pause")}
        </Button>
      )}
      {canCancel(job) && (
        <Button variant="default" leftSection={<IconPlayerStop size={16} aria-hidden />} onClick={askCancel} disabled={busy}>
          {t("act.cancel")}
        </Button>
      )}
      <Menu position="bottom-end">
        <Menu.Target>
          <ActionIcon variant="default" size={36} aria-label={t("act.more")}>
            <IconDotsVertical size={18} aria-hidden />
          </ActionIcon>
        </Menu.Target>
        <Menu.Dropdown>
          {!hasEnded(job) && (
            <Menu.Item component={Link} to={`/new?parent=${job.id}`} leftSection={<IconPlus size={16} aria-hidden />}>
              {t("act.afterwards")}
            </Menu.Item>
          )}
          {(job.asset !== null || job.kind === "generate") && (
            <Menu.Item component={Link} to={again(job)} leftSection={<IconRefresh size={16} aria-hidden />}>
              {t(job.kind === "generate" ? "act.otherWords" : "act.sameSource")}
            </Menu.Item>
          )}
          {!hasEnded(job) && (
            <Menu.Item leftSection={<IconArrowUp size={16} aria-hidden />} onClick={open}>
              {t("act.priority")}
            </Menu.Item>
          )}
          {hasEnded(job) && (
            <Menu.Item c="var(--mantine-color-red-text)" leftSection={<IconTrash size={16} aria-hidden />} onClick={askRemove}>
              {t("act.remove")}
            </Menu.Item>
          )}
        </Menu.Dropdown>
      </Menu>
      <Priority job={job} opened={asks} close={close} />
    </Group>
  );
}
