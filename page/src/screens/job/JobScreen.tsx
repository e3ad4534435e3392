import { Center, Loader, Stack } from "@mantine/core";
import { useEffect } from "react";
import { useTranslation } from "react-i18next";
import { useParams } from "react-router";
import { Problem } from "../../api/client";
import { Fault } from "../../components/Fault";
import { Section } from "../../components/Section";
import { Nowhere } from "../Nowhere";
import { Asked } from "./Asked";
import { Attempts } from "./Attempts";
import { Header } from "./Header";
import { Log } from "./Log";
import { Metadata } from "./Metadata";
import { Progress } from "./Progress";
import { useJob, useSteps } from "./queries";
import { Result } from "./Result";
import { SegmentMap } from "./SegmentMap";
import { segmentsOf } from "./segments";
import { Workers } from "./Workers";

/** All about one job. */
export function JobScreen() {
  const { t } = useTranslation(["job", "common"]);
  const id = useParams().id ?? "";
  const job = useJob(id);
  const steps = useSteps(id).data ?? [];
  const name = job.data?.name;
  useEffect(() => {
    if (name) document.title = `${name} – longtake`;
    return () => void (document.title = "longtake");
  }, [name]);
  if (job.error instanceof Problem && job.error.status === 404) return <Nowhere />;
  if (job.isError && !job.data) return <Fault error={job.error} again={() => void job.refetch()} />;
  if (!job.data)
    return (
      <Center h="40vh">
        <Loader aria-label={t("common:loading")} />
      </Center>
    );
  const segments = segmentsOf(steps);
  return (
    <Stack maw={1100} gap="md" key={id}>
      <Header job={job.data} />
      <Progress job={job.data} steps={steps} />
      <Result job={job.data} />
      {job.data.kind === "upscale" && segments.length > 0 && (
        <Section title={t("map.title", { count: segments.length })} aside={<Workers steps={steps} />}>
          <SegmentMap segments={segments} />
        </Section>
      )}
      <Log job={job.data} />
      <Asked job={job.data} />
      {job.data.result !== null && <Metadata job={job.data} />}
      <Attempts id={id} steps={steps} />
    </Stack>
  );
}
