import { Badge, Button, Group, Switch, Table, Text } from "@mantine/core";
import {
  IconAlertTriangle, IconBan, IconCheck, IconHeartbeat, IconLoader2, IconPlugX, IconPlayerSkipBack,
} from "@tabler/icons-react";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import type { Shapes } from "../../api/client";
import { Scroll } from "../../components/Scroll";
import { Section } from "../../components/Section";
import { useNow } from "../../lib/clock";
import { bytes, duration, number, time } from "../../lib/format";
import { type Step, useAttempts } from "./queries";

type Attempt = Shapes["Attempt"];
type Outcome = NonNullable<Attempt["outcome"]> | "going";

const LOOKS = {
  going: [IconLoader2, "teal"],
  done: [IconCheck, "green"],
  lost: [IconPlugX, "orange"],
  oom: [IconHeartbeat, "orange"],
  crash: [IconAlertTriangle, "red"],
  error: [IconAlertTriangle, "red"],
  cancelled: [IconBan, "gray"],
  released: [IconPlayerSkipBack, "gray"],
} as const;

const PAGE = 20;

/** Who worked at which step, and how that ended. */
export function Attempts({ id, steps }: { id: string; steps: Step[] }) {
  const { t } = useTranslation("job");
  const attempts = useAttempts(id);
  const [vain, setVain] = useState(false);
  const [most, setMost] = useState(PAGE);
  const now = useNow(attempts.data?.some((each) => each.outcome === null) ?? false);
  const all = [...(attempts.data ?? [])].reverse();
  const inVain = all.filter((each) => each.outcome !== null && each.outcome !== "done");
  const shown = vain ? inVain : all;
  if (all.length === 0) return null;
  const figures = (["fps", "vram"] as const).filter((name) => all.some((each) => each[name] !== null));
  const kinds = new Map(steps.map((step) => [step.number, step.kind]));
  return (
    <Section
      title={t("attempts.title")}
      aside={
        inVain.length > 0 && (
          <Switch
            size="xs" checked={vain} onChange={(event) => setVain(event.currentTarget.checked)}
            label={t("attempts.vain", { count: inVain.length })}
          />
        )
      }
    >
      <Scroll label={t("attempts.title")}>
        <Table className="figures" verticalSpacing={6} miw={640}>
          <Table.Thead>
            <Table.Tr>
              {["step", "outcome", "worker", "began", "took", ...figures].map((name) => (
                <Table.Th key={name}>{t(`attempts.${name}`)}</Table.Th>
              ))}
            </Table.Tr>
          </Table.Thead>
          <Table.Tbody>
            {shown.slice(0, most).map((attempt) => (
              <Row
                key={`${attempt.number} ${attempt.fence}`} attempt={attempt} now={now} figures={figures}
                kind={kinds.get(attempt.number) ?? "segment"}
              />
            ))}
          </Table.Tbody>
        </Table>
      </Scroll>
      {shown.length > most && (
        <Group>
          <Button variant="default" size="xs" onClick={() => setMost(most + 200)}>
            {t("attempts.more", { count: shown.length - most })}
          </Button>
        </Group>
      )}
    </Section>
  );
}

interface Shown {
  attempt: Attempt;
  kind: Step["kind"];
  now: number;
  /** Those that any attempt has. */
  figures: ("fps" | "vram")[];
}

function Row({ attempt, kind, now, figures }: Shown) {
  const { t, i18n } = useTranslation(["job", "common"]);
  const outcome: Outcome = attempt.outcome ?? "going";
  const [Icon, color] = LOOKS[outcome];
  const seconds = Math.max(0, (attempt.ended ?? now) - attempt.began) / 1e6;
  const say = (value: number, digits = 0) => number(value, i18n.language, digits);
  const speed = attempt.fps === null ? "–" : say(attempt.fps, attempt.fps < 10 ? 2 : 1);
  const step = kind === "segment" ? t("attempts.segment", { number: attempt.number }) : t(`attempts.${kind}`);
  return (
    <Table.Tr style={{ verticalAlign: "top" }}>
      <Table.Td style={{ whiteSpace: "nowrap" }}>{step}</Table.Td>
      <Table.Td>
        <Badge
          variant="default" tt="none" fw={500} px={8}
          leftSection={<Icon size={14} color={`var(--mantine-color-${color}-text)`} aria-hidden />}
        >
          {t(`outcome.${outcome}`)}
        </Badge>
        {attempt.detail && (
          <Text size="xs" mt={4} maw={360} style={{ overflowWrap: "anywhere" }}>
            {attempt.detail}
          </Text>
        )}
      </Table.Td>
      <Table.Td style={{ overflowWrap: "anywhere" }}>{attempt.worker}</Table.Td>
      <Table.Td style={{ whiteSpace: "nowrap" }}>{time(attempt.began, i18n.language)}</Table.Td>
      <Table.Td style={{ whiteSpace: "nowrap" }}>{duration(seconds, i18n.language)}</Table.Td>
      {figures.map((name) => (
        <Table.Td key={name} style={{ whiteSpace: "nowrap" }}>
          {name === "vram" ? bytes(attempt.vram, i18n.language) : speed}
        </Table.Td>
      ))}
    </Table.Tr>
  );
}
