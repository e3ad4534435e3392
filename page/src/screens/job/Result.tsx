import { Text } from "@mantine/core";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import { address } from "../../api/client";
import { Section } from "../../components/Section";
import { Gallery } from "./Gallery";
import { type Job, useAsset } from "./queries";

/** The film that was made: to be looked at, where a browser can play it. */
export function Result({ job }: { job: Job }) {
  const { t } = useTranslation("job");
  const film = useAsset(job.result);
  const [plays, setPlays] = useState(true);
  if (job.result === null) return null;
  if (film.data === null)
    return (
      <Section title={t("result.title")}>
        <Text size="sm">{t("result.gone")}</Text>
      </Section>
    );
  if (!film.data) return null;
  const source = address(`assets/${job.result}/content`);
  const isMp4 = film.data.name.toLowerCase().endsWith(".mp4");
  return (
    <Section title={t(job.state === "partial" ? "result.part" : "result.title")}>
        {isMp4 && plays ? (
          <video
            controls preload="metadata" playsInline aria-label={film.data.name}
            onError={() => setPlays(false)}
            style={{ width: "100%", maxHeight: "min(60vh, 480px)", background: "#000", borderRadius: 4 }}
          >
            <source src={source} type="video/mp4" onError={() => setPlays(false)} />
          </video>
        ) : (
          <Text size="sm">{t(isMp4 ? "result.cannotPlay" : "result.noPreview")}</Text>
        )}
        {film.data.video && <Gallery id={film.data.id} film={film.data.video} />}
    </Section>
  );
}
