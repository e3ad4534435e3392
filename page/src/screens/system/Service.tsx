import { Alert, Text } from "@mantine/core";
import { IconAlertTriangle } from "@tabler/icons-react";
import { useTranslation } from "react-i18next";
import type { Shapes } from "../../api/client";
import { Facts } from "../../components/Facts";
import { Section } from "../../components/Section";
import { bytes, duration } from "../../lib/format";
import { Gauge } from "./Gauge";

/** The service itself, and what is left of its machine. */
export function Service({ system }: { system: Shapes["System"] }) {
  const { t, i18n } = useTranslation("system");
  const { disk, ram } = system;
  const say = (count: number) => bytes(count, i18n.language);
  const tight = disk.free < disk.low_water;
  return (
    <Section title={t("service.title")}>
      {tight && (
        <Alert color="red" variant="light" p="xs" icon={<IconAlertTriangle aria-hidden />} role="alert">
          <Text size="sm" c="var(--mantine-color-text)">
            {t("service.tight", { free: say(disk.free), mark: say(disk.low_water) })}
          </Text>
        </Alert>
      )}
      <Gauge
        name={t("service.disk")} part={1 - disk.free / disk.total} tight={tight}
        value={t("service.free", { free: say(disk.free), all: say(disk.total) })}
      />
      <Gauge
        name={t("service.ram")} part={1 - ram.available / ram.total}
        value={t("service.free", { free: say(ram.available), all: say(ram.total) })}
      />
      <Facts
        facts={[
          [t("service.mark"), say(disk.low_water)],
          [t("service.version"), system.version],
          [t("service.database"), system.database === "sqlite" ? "SQLite" : "PostgreSQL"],
          [t("service.uptime"), duration(system.uptime, i18n.language)],
          [t("service.auth"), t(`service.auth_${system.auth}`)],
          [t("service.roots"), system.roots.length > 0 ? system.roots.join(", ") : t("service.noRoots")],
          [t("service.me"), `${system.me.name}${system.me.admin ? ` (${t("service.admin")})` : ""}`],
        ]}
      />
    </Section>
  );
}
