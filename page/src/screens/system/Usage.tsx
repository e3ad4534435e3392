import { Text } from "@mantine/core";
import { useTranslation } from "react-i18next";
import type { Shapes } from "../../api/client";
import { Section } from "../../components/Section";
import { bytes, duration, number } from "../../lib/format";
import { Gauge } from "./Gauge";
import { useUsage } from "./queries";

/** What the user has taken, and may take. */
export function Usage() {
  const { t, i18n } = useTranslation("system");
  const usage = useUsage();
  if (!usage.data) return null;
  const { device_seconds, jobs, bytes: room, month } = usage.data;
  const [year = 0, of = 1] = month.split("-").map(Number);
  const named = new Date(year, of - 1).toLocaleDateString(i18n.language, { year: "numeric", month: "long" });
  const figure = (value: number) => number(value, i18n.language);
  return (
    <Section title={t("usage.title")}>
      <Share name={t("usage.time", { month: named })} taken={device_seconds} say={(s) => duration(s, i18n.language)} />
      <Share name={t("usage.jobs")} taken={jobs} say={figure} />
      <Share name={t("usage.bytes")} taken={room} say={(count) => bytes(count, i18n.language)} />
    </Section>
  );
}

interface Shared {
  name: string;
  taken: Shapes["Taken"];
  say: (value: number) => string;
}

function Share({ name, taken: { used, limit }, say }: Shared) {
  const { t } = useTranslation("system");
  if (limit !== null)
    return (
      <Gauge
        name={name} part={limit > 0 ? used / limit : 1} tight={used >= limit}
        value={t("gauge.of", { used: say(used), all: say(limit) })}
      />
    );
  return (
    <div>
      <Text size="sm" c="dimmed">
        {name}
      </Text>
      <Text size="sm" className="figures">
        {say(used)} {t("usage.unlimited")}
      </Text>
    </div>
  );
}
