import { Button, Group, Paper, Stack, Text, Title } from "@mantine/core";
import { Dropzone } from "@mantine/dropzone";
import { IconFolderOpen, IconMovie, IconSparkles, IconUpload } from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { useEffect, useState } from "react";
import { useTranslation } from "react-i18next";
import { api, body, type Shapes } from "../../api/client";
import { bytes, time } from "../../lib/format";
import { done, send, useUpload } from "../../lib/upload";
import { Browse } from "./Browse";
import { useExample } from "./example";
import classes from "./new.module.css";
import { LeftUploads, Uploading } from "./Uploading";

const FEW = 6;

/** Where the film comes from. */
export function PickFilm({ pick }: { pick: (asset: string) => void }) {
  const { t } = useTranslation("new");
  const upload = useUpload();
  const example = useExample();
  const asset = upload?.asset;
  useEffect(() => {
    if (!asset) return;
    done();
    pick(asset);
  });
  return (
    <Stack>
      {upload ? (
        <Uploading upload={upload} />
      ) : (
        <>
          <Dropzone
            onDrop={([file]) => file && void send(file)} multiple={false} p="xl"
            inputProps={{ "aria-label": t("drop.choose") }}
          >
            <Stack align="center" gap={6} style={{ pointerEvents: "none" }}>
              <IconUpload size={32} stroke={1.5} aria-hidden />
              <Text fw={600}>{t("drop.title")}</Text>
              <Text size="sm" c="dimmed" ta="center">
                {t("drop.about")}
              </Text>
            </Stack>
          </Dropzone>
          <LeftUploads />
        </>
      )}
      <Group gap="xs">
        <FromServer pick={pick} />
        <Button
          variant="default" onClick={() => example.mutate()} loading={example.isPending}
          leftSection={<IconSparkles size={18} aria-hidden />}
        >
          {t("example")}
        </Button>
      </Group>
      <Recent pick={pick} />
    </Stack>
  );
}

export function FromServer({ pick }: { pick: (asset: string) => void }) {
  const { t } = useTranslation("new");
  const [opened, setOpened] = useState(false);
  const system = useQuery({ queryKey: ["system"], queryFn: () => body(api.GET("/api/v1/system")) });
  if (!system.data?.roots.length) return null;
  return (
    <>
      <Button
        variant="default" onClick={() => setOpened(true)}
        leftSection={<IconFolderOpen size={18} aria-hidden />}
      >
        {t("browse.open")}
      </Button>
      {opened && <Browse close={() => setOpened(false)} pick={pick} />}
    </>
  );
}

function Recent({ pick }: { pick: (asset: string) => void }) {
  const { t } = useTranslation("new");
  const [all, setAll] = useState(false);
  const films = useQuery({
    queryKey: ["assets"],
    queryFn: () => body(api.GET("/api/v1/assets", { params: { query: { most: 200 } } })),
  });
  const ready = films.data?.assets.filter((one) => one.state === "ready") ?? [];
  if (ready.length === 0) return null;
  return (
    <section aria-labelledby="recent">
      <Title order={2} size="h5" id="recent" mb="xs">
        {t("recent.title")}
      </Title>
      <ul className={classes.films}>
        {(all ? ready : ready.slice(0, FEW)).map((film) => (
          <li key={film.id}>
            <Film film={film} pick={pick} />
          </li>
        ))}
      </ul>
      {!all && ready.length > FEW && (
        <Button variant="subtle" size="xs" mt="xs" onClick={() => setAll(true)}>
          {t("recent.all", { count: ready.length })}
        </Button>
      )}
    </section>
  );
}

function Film({ film, pick }: { film: Shapes["Asset"]; pick: (asset: string) => void }) {
  const { t, i18n } = useTranslation("new");
  const { video } = film;
  const said = [
    film.kind === "source" ? null : t(`recent.${film.kind}`),
    video && `${video.width}×${video.height}`,
    bytes(film.bytes, i18n.language),
    time(film.created, i18n.language),
  ];
  return (
    <Paper component="button" type="button" className={classes.film} onClick={() => pick(film.id)}>
      <IconMovie size={20} stroke={1.5} aria-hidden />
      <span className={classes.filmText}>
        <Text span size="sm" fw={600} truncate title={film.name} display="block">
          {film.name}
        </Text>
        <Text span size="xs" c="dimmed" className="figures" display="block">
          {said.filter(Boolean).join(" · ")}
        </Text>
      </span>
    </Paper>
  );
}
