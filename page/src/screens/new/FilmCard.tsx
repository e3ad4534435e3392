import { Alert, Badge, Button, Group, Loader, Paper, Stack, Text, Title } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import { address, api, body, type Shapes } from "../../api/client";
import { Fault } from "../../components/Fault";
import { bytes, duration, number } from "../../lib/format";
import classes from "./new.module.css";

type Film = Shapes["Film"];

const HDR: Record<number, string> = { 16: "HDR (PQ)", 18: "HDR (HLG)" }; // by transfer curve
const SOON = 2000; // ms; the stream of events tells sooner, as a rule

export function useFilm(id: string | null) {
  return useQuery({
    queryKey: ["asset", id],
    enabled: id !== null,
    queryFn: () => body(api.GET("/api/v1/assets/{name}", { params: { path: { name: id! } } })),
    refetchInterval: ({ state }) => (state.data && isLookedAt(state.data) ? SOON : false),
  });
}

/** A film that a job has made is ready before it is described. */
const isLookedAt = ({ state, video, reason }: Shapes["Asset"]) =>
  state === "probing" || (state === "ready" && video === null && reason === null);

/** The chosen film, as its header describes it. */
export function FilmCard({ id, again }: { id: string; again: () => void }) {
  const { t } = useTranslation("new");
  const film = useFilm(id);
  if (film.isPending) return <Loader aria-label={t("common:loading")} />;
  if (film.isError) return <Fault error={film.error} again={again} />;
  const { name, state, reason, video } = film.data;
  return (
    <Paper withBorder p="md" component="section" aria-labelledby="film">
      <div className={classes.card}>
        {video && <Thumb id={id} film={video} />}
        <Stack gap="xs" className={classes.about}>
          <Title order={2} size="h4" id="film" style={{ overflowWrap: "anywhere" }}>
            {name}
          </Title>
          <div role="status">
            {(isLookedAt(film.data) || state === "receiving") && (
              <Group gap="xs">
                <Loader size="xs" />
                <Text size="sm">{t(state === "receiving" ? "film.receiving" : "film.probing")}</Text>
              </Group>
            )}
            {video === null && reason !== null && (
              <Alert color="red" title={t("film.rejected")}>
                {reason}
              </Alert>
            )}
          </div>
          {video && <Facts film={video} />}
        </Stack>
        <Button variant="default" size="xs" onClick={again} className={classes.other}>
          {t("film.other")}
        </Button>
      </div>
    </Paper>
  );
}

function Thumb({ id, film }: { id: string; film: Film }) {
  const [broken, setBroken] = useState(false);
  if (broken) return null;
  return (
    <img
      src={address(`assets/${id}/thumb?width=416`)} alt="" className={classes.thumb}
      onError={() => setBroken(true)} style={{ aspectRatio: `${film.width} / ${film.height}` }}
    />
  );
}

function Facts({ film }: { film: Film }) {
  const { t, i18n } = useTranslation("new");
  const language = i18n.language;
  const sounds = film.tracks.filter((track) => track.kind === "audio");
  const subtitles = film.tracks.filter((track) => track.kind === "subtitle").length;
  const hdr = HDR[film.color.transfer];
  const facts: [string, string][] = [
    ["picture", `${film.width}×${film.height}`],
    ["length", duration(value(film.duration), language)],
    ["frames", number(film.frames, language)],
    ["rate", t(film.variable ? "film.about" : "film.exactly", { value: number(value(film.rate), language, 3) })],
    ["codec", `${film.codec} · ${t("film.bits", { count: film.bits })}`],
    ["sound", sounds.length === 0 ? t("film.none") : told(sounds)],
  ];
  if (subtitles > 0) facts.push(["subtitles", number(subtitles, language)]);
  if (film.chapters > 0) facts.push(["chapters", number(film.chapters, language)]);
  facts.push(["file", bytes(film.size, language)]);
  return (
    <>
      {(hdr || film.fields === "tff" || film.fields === "bff") && (
        <Group gap={6}>
          {hdr && <Badge variant="default" tt="none">{hdr}</Badge>}
          {film.fields !== "progressive" && film.fields !== "unknown" && (
            <Badge variant="default" tt="none">{t("film.interlaced")}</Badge>
          )}
        </Group>
      )}
      <dl className={`figures ${classes.facts}`}>
        {facts.map(([name, text]) => (
          <div key={name}>
            <dt>{t(`film.${name}`)}</dt>
            <dd>{text}</dd>
          </div>
        ))}
      </dl>
      {film.notes.map((note) => (
        <Text key={note} size="sm" c="dimmed">
          {note}
        </Text>
      ))}
    </>
  );
}

/** "aac eng, ac3 deu"; of many the number. */
function told(sounds: Shapes["Track"][]): string {
  const words = sounds.map(({ codec, language }) =>
    language && language !== "und" ? `${codec} ${language}` : codec,
  );
  return words.length <= 4 ? words.join(", ") : `${words.length} × ${sounds[0]!.codec}`;
}

function value(ratio: string): number {
  const [over, under = "1"] = ratio.split("/");
  return Number(over) / Number(under);
}
