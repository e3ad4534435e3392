import { Anchor, Text } from "@mantine/core";
import { Fragment } from "react";
import { useTranslation } from "react-i18next";
import { Link } from "react-router";
import type { Step } from "./queries";

/** Who is at work on the job now. */
export function Workers({ steps }: { steps: Step[] }) {
  const { t } = useTranslation("job");
  const names = [...new Set(steps.filter((s) => s.state === "leased").map((s) => s.worker ?? ""))];
  if (names.length === 0) return null;
  const most = names.slice(0, 4);
  return (
    <Text size="sm" style={{ overflowWrap: "anywhere" }}>
      {t("workers", { count: names.length })}{" "}
      {most.map((name, place) => (
        <Fragment key={name}>
          {place > 0 && ", "}
          <Anchor component={Link} to="/system" inherit>
            {name}
          </Anchor>
        </Fragment>
      ))}
      {names.length > most.length && ` +${names.length - most.length}`}
    </Text>
  );
}
