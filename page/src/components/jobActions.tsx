import { Button, Group, Stack, Text } from "@mantine/core";
import { modals } from "@mantine/modals";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import type { ReactNode } from "react";
import { useTranslation } from "react-i18next";
import { address, api, type Shapes } from "../api/client";
import { problem } from "./notify";

type Job = Shapes["Job"];

const ENDED: readonly string[] = ["succeeded", "partial", "failed", "cancelled"];

export const hasEnded = ({ state }: Pick<Job, "state">) => ENDED.includes(state);
export const canPause = (job: Job) => !hasEnded(job) && job.wish === "run";
export const canResume = (job: Job) => !hasEnded(job) && job.wish === "pause";
export const canCancel = (job: Job) => !hasEnded(job) && job.wish !== "cancel";
export const canRetry = (job: Job) => ["failed", "cancelled", "partial"].includes(job.state);
export const filmOf = (job: Job) => job.result && address(`assets/${job.result}/content`);

/** What can be done with a job; cancelling and removing ask first. `removed` follows a removal. */
export function useJobActions(job: Job, removed: () => void = () => {}) {
  const { t } = useTranslation("queue");
  const queries = useQueryClient();
  const fresh = () =>
    Promise.all([
      queries.invalidateQueries({ queryKey: ["jobs"] }),
      queries.invalidateQueries({ queryKey: ["job", job.id] }),
    ]);
  const path = { params: { path: { name: job.id } } };
  const act = useMutation({
    mutationFn: (verb: "pause" | "resume" | "retry") => api.POST(`/api/v1/jobs/{name}/${verb}`, path),
    onSuccess: fresh,
    onError: problem,
  });
  const cancel = useMutation({
    mutationFn: (mode: "partial" | "nothing") =>
      api.POST("/api/v1/jobs/{name}/cancel", { ...path, body: { mode } }),
    onSuccess: fresh,
    onError: problem,
  });
  const remove = useMutation({
    mutationFn: () => api.DELETE("/api/v1/jobs/{name}", path),
    onSuccess: () => {
      removed();
      return queries.invalidateQueries({ queryKey: ["jobs"] });
    },
    onError: problem,
  });
  return {
    busy: act.isPending || cancel.isPending || remove.isPending,
    pause: () => act.mutate("pause"),
    resume: () => act.mutate("resume"),
    retry: () => act.mutate("retry"),
    askCancel: () =>
      ask(t("cancel.title", { name: job.name }), t("common:close"), (close) => (
        <Cancel job={job} close={close} choose={(mode) => cancel.mutate(mode)} />
      )),
    askRemove: () =>
      ask(t("remove.title", { name: job.name }), t("common:close"), (close) => (
        <Remove job={job} close={close} choose={() => remove.mutate()} />
      )),
  };
}

function ask(title: string, closes: string, body: (close: () => void) => ReactNode) {
  const id = modals.open({
    title,
    closeButtonProps: { "aria-label": closes },
    styles: { title: { fontWeight: 600, lineHeight: 1.4, overflowWrap: "anywhere" } },
    children: body(() => modals.close(id)),
  });
}

interface Asked<T> {
  job: Job;
  close: () => void;
  choose: (how: T) => void;
}

function Cancel({ job, close, choose }: Asked<"partial" | "nothing">) {
  const { t } = useTranslation("queue");
  const pick = (mode: "partial" | "nothing") => () => {
    choose(mode);
    close();
  };
  const begun = job.progress.segments.done > 0;
  return (
    <Stack>
      <Text size="sm">{t(begun ? "cancel.begun" : "cancel.fresh")}</Text>
      <Group justify="flex-end" gap="xs">
        <Button variant="default" onClick={close} data-autofocus>
          {t("cancel.no")}
        </Button>
        <Button color="red" variant={begun ? "light" : "filled"} onClick={pick("nothing")}>
          {t(begun ? "cancel.discard" : "cancel.yes")}
        </Button>
        {begun && <Button onClick={pick("partial")}>{t("cancel.keep")}</Button>}
      </Group>
    </Stack>
  );
}

function Remove({ job, close, choose }: Asked<void>) {
  const { t } = useTranslation("queue");
  const go = () => {
    choose();
    close();
  };
  return (
    <Stack>
      <Text size="sm">{t(job.result ? "remove.film" : "remove.none")}</Text>
      <Group justify="flex-end" gap="xs">
        <Button variant="default" onClick={close} data-autofocus>
          {t("common:cancel")}
        </Button>
        <Button color="red" onClick={go}>
          {t("remove.yes")}
        </Button>
      </Group>
    </Stack>
  );
}
