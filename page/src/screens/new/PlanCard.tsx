import { Alert, Anchor, Button, Loader, Paper, Stack, Text, Title } from "@mantine/core";
import { useDebouncedValue } from "@mantine/hooks";
import { IconPlayerPlay } from "@tabler/icons-react";
import { keepPreviousData, useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useRef } from "react";
import { useTranslation } from "react-i18next";
import { Link, useNavigate } from "react-router";
import { api, body, type Shapes } from "../../api/client";
import { bytes, duration, number } from "../../lib/format";
import type { Asking, Choices, NewJob } from "./choices";
import classes from "./new.module.css";
import { useMissing } from "./weights";

interface Props {
  asking: Asking | string; // what is to be made, or why nothing can be asked for yet
  engine: string;
  choices: Pick<Choices, "priority" | "keep">;
}

/** What the job takes, as it is chosen now, and the button that starts it. */
export function PlanCard(props: Props) {
  const { t } = useTranslation("new");
  return (
    <Paper withBorder p="md" component="section" aria-labelledby="plan" className={classes.sticky}>
      <Stack gap="sm">
        <Title order={2} size="h4" id="plan">
          {t("plan.title")}
        </Title>
        {typeof props.asking === "string" ? (
          <>
            <Text size="sm" role="status">
              {props.asking}
            </Text>
            <Start disabled />
          </>
        ) : (
          <Planned {...props} asking={props.asking} />
        )}
      </Stack>
    </Paper>
  );
}

function Start(props: { disabled?: boolean; loading?: boolean; onClick?: () => void }) {
  const { t } = useTranslation("new");
  return (
    <Button size="md" fullWidth leftSection={<IconPlayerPlay size={18} aria-hidden />} {...props}>
      {t("plan.start")}
    </Button>
  );
}

function Planned({ asking, engine, choices }: Omit<Props, "asking"> & { asking: Asking }) {
  const { t } = useTranslation("new");
  const missing = useMissing(engine);
  const [asked] = useDebouncedValue(asking, 350);
  const plan = useQuery({
    queryKey: ["plan", asked],
    queryFn: () => body(api.POST("/api/v1/plans", { body: asked })),
    placeholderData: keepPreviousData,
    retry: false,
    staleTime: 10_000,
  });
  const start = useStart();
  const settling = plan.isFetching || JSON.stringify(asked) !== JSON.stringify(asking);
  const job: NewJob = {
    ...asking, priority: choices.priority, on_cancel: choices.keep, mixed: false,
  };
  return (
    <>
        {plan.isPending && <Loader size="sm" aria-label={t("common:loading")} />}
        {plan.isError ? (
          <Alert color="red" role="alert" title={t("plan.wrong")}>
            <Text size="sm" style={{ overflowWrap: "anywhere" }}>
              {plan.error.message}
            </Text>
            {(missing || plan.error.message.includes("weights pull")) && (
              <Anchor component={Link} to="/weights" size="sm" c="inherit" underline="always">
                {t("engine.get")}
              </Anchor>
            )}
          </Alert>
        ) : (
          plan.data && <Plan plan={plan.data} faded={settling} />
        )}
        {start.isError && (
          <Alert color="red" role="alert" title={t("plan.refused")}>
            <Text size="sm">{start.error.message}</Text>
          </Alert>
        )}
      <Start
        disabled={plan.isError || plan.isPending} loading={start.isPending || start.isSuccess}
        onClick={() => start.mutate(job)}
      />
    </>
  );
}

/** Puts the job into the queue; asked again after a lost answer, it is the same job. */
function useStart() {
  const navigate = useNavigate();
  const queries = useQueryClient();
  const sent = useRef({ body: "", key: "" });
  return useMutation({
    mutationFn: (job: NewJob) => {
      const text = JSON.stringify(job);
      if (sent.current.body !== text) sent.current = { body: text, key: fresh() };
      return body(
        api.POST("/api/v1/jobs", {
          body: job,
          params: { header: { "idempotency-key": sent.current.key } },
        }),
      );
    },
    onSuccess: ({ id }) => {
      void queries.invalidateQueries({ queryKey: ["jobs"] });
      void navigate(`/jobs/${id}`);
    },
  });
}

/** Random; crypto.randomUUID is missing on plain http. */
const fresh = () =>
  [...crypto.getRandomValues(new Uint8Array(16))].map((n) => n.toString(16).padStart(2, "0")).join("");

function Plan({ plan, faded }: { plan: Shapes["Preview"]; faded: boolean }) {
  const { t, i18n } = useTranslation("new");
  const language = i18n.language;
  const rows: [string, string][] = [
    ["picture", `${plan.width}×${plan.height}`],
    ["frames", number(plan.frames, language)],
    ...(plan.segments > 1 ? [["segments", number(plan.segments, language)] as [string, string]] : []),
    ["ram", bytes(plan.ram, language)],
    ...(plan.vram > 0 ? [["vram", bytes(plan.vram, language)] as [string, string]] : []),
    ["disk", bytes(plan.disk, language)],
    ["device", plan.device === "cpu" ? t("plan.cpu") : plan.device],
  ];
  return (
    <div style={{ opacity: faded ? 0.6 : 1 }} aria-busy={faded} className="figures">
      {plan.seconds === null ? (
        <Text size="sm" mb="xs">
          {t("plan.noTime")}
        </Text>
      ) : (
        <Text fw={600} size="lg">
          {t("plan.time", { time: duration(plan.seconds, language) })}
        </Text>
      )}
      <dl className={classes.plan}>
        {rows.map(([name, text]) => (
          <div key={name}>
            <dt>{t(`plan.${name}`)}</dt>
            <dd>{text}</dd>
          </div>
        ))}
      </dl>
      {plan.notes.map((note) => (
        <Text key={note} size="xs" c="dimmed" mt={4}>
          {note}
        </Text>
      ))}
    </div>
  );
}
