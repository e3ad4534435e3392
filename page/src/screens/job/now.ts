import { useTranslation } from "react-i18next";
import { hasEnded } from "../../components/jobActions";
import { duration, number, time } from "../../lib/format";
import type { Job, Step } from "./queries";

/** What happens with a job now, in a sentence or two. */
export function useSentence(job: Job, steps: Step[]): string {
  const { t, i18n } = useTranslation("job");
  const busy = new Set(steps.filter((s) => s.state === "leased").map((s) => s.worker)).size;
  const done = job.progress.segments.done;
  const all = Object.values(job.progress.segments).reduce((sum, count) => sum + count, 0);

  if (hasEnded(job)) {
    const took = job.started && job.ended ? duration((job.ended - job.started) / 1e6, i18n.language) : null;
    const when = time(job.ended, i18n.language);
    if (job.state === "failed") return t("now.failed", { when });
    if (job.state === "succeeded") {
      const frames = number(job.progress.frames, i18n.language);
      return t("now.succeeded", { when, took, frames });
    }
    return took === null ? t("now.neverBegan", { when }) : t(`now.${job.state}`, { when, took });
  }
  if (job.wish === "cancel") return t(job.on_cancel === "partial" ? "now.stopping" : "now.discarding");
  if (job.state === "paused" && job.progress.sampler) return t("now.pausedSteps", slots(job));
  if (job.state === "paused") return t(done > 0 ? "now.pausedSome" : "now.paused");
  if (job.wish === "pause") return t("now.pausing");
  if (job.waiting && busy === 0) return t(`waiting.${job.waiting.reason}`, { detail: job.waiting.detail });
  if (job.state === "queued")
    return t(steps.some((s) => s.kind === "plan" && s.state === "blocked") ? "now.parent" : "now.queued");
  if (job.state === "planning" && job.kind === "upscale")
    return t(busy > 0 ? "now.planning" : "now.queued");
  if (job.state === "planning") return t(busy > 0 ? "now.planningWords" : "now.queued");
  if (job.state === "joining" && job.kind === "generate") return t("now.checking");
  if (job.state === "joining") return t(busy > 0 ? "now.joining" : "now.joinWaits");
  if (job.kind === "generate") return t(busy === 0 ? "now.stepWaits" : `now.${stageOf(job.progress)}`, slots(job));
  if (busy === 0) return t(job.progress.fps === null ? "now.waits" : "now.between", { done, all });
  return t("now.running", { done, all, count: busy });
}

/** At what a film from words is. */
export function stageOf({ sampler, frames }: Job["progress"]): "reading" | "sampling" | "decoding" {
  if (frames > 0) return "decoding";
  if (sampler === null || sampler.done === 0) return "reading";
  return sampler.done < sampler.of ? "sampling" : "decoding";
}

const slots = ({ progress: { sampler, frames, of } }: Job) => ({
  done: sampler?.done ?? 0, steps: sampler?.of ?? 0, frames, of: of ?? 0,
});
