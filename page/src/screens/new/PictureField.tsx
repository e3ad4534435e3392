import { Alert, Button, Group, Loader, Paper, Stack, Text } from "@mantine/core";
import { Dropzone } from "@mantine/dropzone";
import { IconPhoto } from "@tabler/icons-react";
import { useEffect } from "react";
import { useTranslation } from "react-i18next";
import { address } from "../../api/client";
import { Fault } from "../../components/Fault";
import { bytes } from "../../lib/format";
import { done, send, useUpload } from "../../lib/upload";
import { useFilm } from "./FilmCard";
import classes from "./new.module.css";
import { FromServer } from "./PickFilm";
import { Labelled } from "./Settings";
import { Uploading } from "./Uploading";

interface Props {
  asset: string | null;
  pick: (asset: string | null) => void;
}

/** The picture that a film begins with. */
export function PictureField({ asset, pick }: Props) {
  const { t } = useTranslation("new");
  return (
    <Labelled label={t("picture.label")} help={t("picture.help")}>
      {() => (asset === null ? <Pick pick={pick} /> : <Picked id={asset} again={() => pick(null)} />)}
    </Labelled>
  );
}

function Pick({ pick }: Pick<Props, "pick">) {
  const { t } = useTranslation("new");
  const upload = useUpload();
  const asset = upload?.asset;
  useEffect(() => {
    if (!asset) return;
    done();
    pick(asset);
  });
  if (upload) return <Uploading upload={upload} />;
  return (
    <Stack gap="xs">
      <Dropzone
        onDrop={([file]) => file && void send(file)} multiple={false} p="md" accept={{ "image/*": [] }}
        inputProps={{ "aria-label": t("picture.choose") }}
      >
        <Stack align="center" gap={6} style={{ pointerEvents: "none" }}>
          <IconPhoto size={28} stroke={1.5} aria-hidden />
          <Text fw={600} ta="center">
            {t("picture.drop")}
          </Text>
        </Stack>
      </Dropzone>
      <Group>
        <FromServer pick={pick} />
      </Group>
    </Stack>
  );
}

function Picked({ id, again }: { id: string; again: () => void }) {
  const { t, i18n } = useTranslation("new");
  const picture = useFilm(id);
  if (picture.isPending) return <Loader size="sm" aria-label={t("common:loading")} />;
  if (picture.isError) return <Fault error={picture.error} again={again} />;
  const { name, video, reason } = picture.data;
  return (
    <Paper withBorder p="sm">
      <Group wrap="nowrap" align="flex-start" gap="sm">
        {video && (
          <img
            src={address(`assets/${id}/thumb?width=320&t=0`)} alt="" className={classes.thumb}
            style={{ width: 120, aspectRatio: `${video.width} / ${video.height}` }}
          />
        )}
        <div style={{ flex: 1, minWidth: 0 }}>
          <Text size="sm" fw={600} style={{ overflowWrap: "anywhere" }}>
            {name}
          </Text>
          {video && (
            <Text size="xs" c="dimmed" className="figures">
              {video.width}×{video.height} · {bytes(video.size, i18n.language)}
            </Text>
          )}
          {!video && reason === null && <Text size="xs">{t("picture.probing")}</Text>}
          {reason !== null && (
            <Alert color="red" mt="xs" title={t("picture.rejected")}>
              {reason}
            </Alert>
          )}
          <Button variant="default" size="xs" mt="xs" onClick={again}>
            {t("picture.other")}
          </Button>
        </div>
      </Group>
    </Paper>
  );
}
