import "../../i18n/new";

import { Anchor, Grid, Loader, SegmentedControl, Stack, Text, Title } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import { Link, useSearchParams } from "react-router";
import { api, body } from "../../api/client";
import { Fault } from "../../components/Fault";
import { type Asking, type Choices, type Cut, params, type Source, useChoices } from "./choices";
import { FilmCard, useFilm } from "./FilmCard";
import { PickFilm } from "./PickFilm";
import { PlanCard } from "./PlanCard";
import { Settings } from "./Settings";
import { Words } from "./Words";

/** A film, what to make of it, what that takes, and off. */
export function NewJob() {
  const { t } = useTranslation("new");
  const [search, setSearch] = useSearchParams();
  const asset = search.get("asset");
  const parent = search.get("parent");
  const kind = search.get("kind") === "generate" ? "generate" : "upscale";
  const pick = (id: string) => setSearch({ asset: id });
  return (
    <Stack maw={1200} mx="auto">
      <Title order={1} size="h2">
        {t("title")}
      </Title>
      <SegmentedControl
        aria-label={t("kind.label")} value={kind} style={{ alignSelf: "flex-start", maxWidth: "100%" }}
        data={["upscale", "generate"].map((value) => ({ value, label: t(`kind.${value}`) }))}
        onChange={(value) => setSearch(value === "generate" ? { kind: value } : {})}
      />
      {kind === "generate" ? (
        <Words asset={asset} pick={(id) => setSearch({ kind, ...(id === null ? {} : { asset: id }) })} />
      ) : (
        <>
          {asset !== null && <OfAsset key={asset} id={asset} again={() => setSearch({})} />}
          {asset === null && parent !== null && <OfJob id={parent} />}
          {asset === null && parent === null && <PickFilm pick={pick} />}
        </>
      )}
    </Stack>
  );
}

function OfAsset({ id, again }: { id: string; again: () => void }) {
  const film = useFilm(id);
  return (
    <>
      <FilmCard id={id} again={again} />
      {film.data?.state === "ready" && film.data.video && (
        <Making source={{ asset: id }} frames={film.data.video.frames} />
      )}
    </>
  );
}

/** Of the film that another job has made, or is making. */
function OfJob({ id }: { id: string }) {
  const { t } = useTranslation("new");
  const [, setSearch] = useSearchParams();
  const job = useQuery({
    queryKey: ["job", id, "now"],
    queryFn: () => body(api.GET("/api/v1/jobs/{name}", { params: { path: { name: id } } })),
  });
  if (job.isPending) return <Loader />;
  if (job.isError) return <Fault error={job.error} again={() => void job.refetch()} />;
  if (job.data.result !== null)
    return <OfAsset id={job.data.result} again={() => setSearch({})} />;
  return (
    <>
      <Text>
        {t("ofJob")}{" "}
        <Anchor component={Link} to={`/jobs/${id}`} inherit>
          {job.data.name}
        </Anchor>
      </Text>
      <Making source={{ parent: id }} frames={job.data.progress.of} />
    </>
  );
}

function Making({ source, frames }: { source: Source; frames: number | null }) {
  const [choices, change] = useChoices();
  const [cut, setCut] = useState<Cut>({ first: null, stop: null });
  const form: Form = { choices, change, cut, setCut, frames };
  const asking: Asking = {
    ...source, kind: "upscale", params: params(choices, cut), container: choices.container,
  };
  return (
    <Grid gap="xl">
      <Grid.Col span={{ base: 12, md: 7 }}>
        <Settings form={form} />
      </Grid.Col>
      <Grid.Col span={{ base: 12, md: 5 }}>
        <PlanCard asking={asking} engine={choices.engine} choices={choices} />
      </Grid.Col>
    </Grid>
  );
}

/** What the parts of the form share. */
export interface Form {
  choices: Choices;
  change: (changed: Partial<Choices>) => void;
  cut: Cut;
  setCut: (cut: Cut) => void;
  frames: number | null; // of the film
}
