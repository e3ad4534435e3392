import { Alert, Button, Loader, Modal, ScrollArea, Text } from "@mantine/core";
import { IconArrowUp, IconFolder, IconMovie } from "@tabler/icons-react";
import { useMutation, useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import { api, body, type Shapes } from "../../api/client";
import { Fault } from "../../components/Fault";
import { bytes } from "../../lib/format";
import classes from "./new.module.css";

interface Props {
  close: () => void;
  pick: (asset: string) => void;
}

/** The folders of the server that are open for use. */
export function Browse({ close, pick }: Props) {
  const { t } = useTranslation("new");
  const [path, setPath] = useState<string | undefined>();
  const folder = useQuery({
    queryKey: ["folders", path ?? null],
    queryFn: () => body(api.GET("/api/v1/folders", { params: { query: { path } } })),
    staleTime: 0,
  });
  const take = useMutation({
    mutationFn: (film: string) => body(api.POST("/api/v1/assets", { body: { path: film } })),
    onSuccess: ({ id }) => pick(id),
  });
  const open = (entry: Shapes["Entry"]) =>
    entry.kind === "folder" ? setPath(entry.path) : take.mutate(entry.path);
  return (
    <Modal opened onClose={close} title={t("browse.title")} size="lg" closeButtonProps={{ "aria-label": t("common:close") }}>
      {path !== undefined && (
        <>
          <Text size="sm" c="dimmed" mb={4} style={{ overflowWrap: "anywhere" }}>
            {path}
          </Text>
          <Button
            variant="subtle" size="compact-sm" leftSection={<IconArrowUp size={16} aria-hidden />}
            onClick={() => setPath(folder.data?.parent ?? undefined)} mb={4}
          >
            {t("browse.up")}
          </Button>
        </>
      )}
      {take.isError && <Fault error={take.error} />}
      {folder.isPending && <Loader size="sm" aria-label={t("common:loading")} />}
      {folder.isError && <Fault error={folder.error} again={() => void folder.refetch()} />}
      {folder.data && (
        <ScrollArea.Autosize mah="60vh" type="auto">
          <Entries entries={folder.data.entries} open={open} busy={take.isPending} />
          {folder.data.more && <Alert mt="xs">{t("browse.more")}</Alert>}
        </ScrollArea.Autosize>
      )}
    </Modal>
  );
}

interface Listed {
  entries: Shapes["Entry"][];
  open: (entry: Shapes["Entry"]) => void;
  busy: boolean;
}

function Entries({ entries, open, busy }: Listed) {
  const { t, i18n } = useTranslation("new");
  if (entries.length === 0)
    return (
      <Text size="sm" c="dimmed" p="sm">
        {t("browse.empty")}
      </Text>
    );
  return (
    <ul className={classes.entries}>
      {entries.map((entry) => (
        <li key={entry.path}>
          <button type="button" className={classes.entry} onClick={() => open(entry)} disabled={busy}>
            {entry.kind === "folder" ? (
              <IconFolder size={18} stroke={1.5} role="img" aria-label={t("browse.folder")} />
            ) : (
              <IconMovie size={18} stroke={1.5} aria-hidden />
            )}
            <span className={classes.entryName}>{entry.name}</span>
            {entry.bytes !== null && (
              <Text span size="xs" c="dimmed" className="figures">
                {bytes(entry.bytes, i18n.language)}
              </Text>
            )}
          </button>
        </li>
      ))}
    </ul>
  );
}
