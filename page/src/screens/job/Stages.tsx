import { Text } from "@mantine/core";
import { IconCircle, IconCircleCheck, IconCircleDotted } from "@tabler/icons-react";
import { useTranslation } from "react-i18next";
import { stageOf } from "./now";
import { type Job, type Step } from "./queries";
import "./stages.css";

const STAGES = ["reading", "sampling", "decoding", "joining"] as const;
const ICONS = { done: IconCircleCheck, now: IconCircle, later: IconCircleDotted };

/** What a film from words goes through, and where it is. */
export function Stages({ job, steps }: { job: Job; steps: Step[] }) {
  const { t } = useTranslation("job");
  const at = place(job, steps);
  const { sampler, frames, of } = job.progress;
  const figure = {
    reading: "",
    sampling: sampler ? t("stages.of", { here: sampler.done, of: sampler.of }) : "",
    decoding: frames > 0 ? t("stages.of", { here: frames, of: of ?? 0 }) : "",
    joining: "",
  };
  return (
    <ol className="stages" aria-label={t("stages.label")}>
      {STAGES.map((stage, i) => {
        const standing = i < at ? "done" : i === at ? "now" : "later";
        const Icon = ICONS[standing];
        return (
          <li key={stage} data-standing={standing} aria-current={standing === "now" ? "step" : undefined}>
            <Icon size={18} role="img" aria-label={t(`stages.${standing}`)} />
            <Text span size="sm" fw={standing === "now" ? 600 : undefined}>
              {t(`stages.${stage}`)}{" "}
              <Text span className="figures" inherit data-testid={stage}>
                {figure[stage]}
              </Text>
            </Text>
          </li>
        );
      })}
    </ol>
  );
}

/** Number of the stage that it is at; -1: it has not begun; behind the last one: it is done. */
function place(job: Job, steps: Step[]): number {
  if (job.state === "succeeded") return STAGES.length;
  if (job.state === "joining") return STAGES.indexOf("joining");
  if (!job.progress.sampler && !steps.some((s) => s.kind === "segment" && s.state === "leased")) return -1;
  return STAGES.indexOf(stageOf(job.progress));
}
