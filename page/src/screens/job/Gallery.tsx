import { Text } from "@mantine/core";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import { address, type Shapes } from "../../api/client";
import { number } from "../../lib/format";
import { moments } from "./moments";
import "./gallery.css";

const [SMALL, LARGE] = [320, 640]; // px

/** Frames over the whole film; each leads to a larger picture of it. */
export function Gallery({ id, film }: { id: string; film: Shapes["Film"] }) {
  const { t } = useTranslation("job");
  return (
    <div>
      <Text size="sm" fw={600} mb={6} id="gallery">
        {t("gallery.title")}
      </Text>
      <ul className="gallery" aria-labelledby="gallery">
        {moments(film).map((at) => (
          <Frame key={at} id={id} at={at} ratio={`${film.width} / ${film.height}`} />
        ))}
      </ul>
    </div>
  );
}

function Frame({ id, at, ratio }: { id: string; at: number; ratio: string }) {
  const { t, i18n } = useTranslation("job");
  const [fails, setFails] = useState(false);
  if (fails) return null;
  const still = (width: number) => address(`assets/${id}/thumb?t=${at}&width=${width}`);
  const time = t("gallery.at", { time: number(at, i18n.language, 2) });
  return (
    <li>
      <a href={still(LARGE)} target="_blank" rel="noreferrer" aria-label={t("gallery.frame", { time })}>
        <img
          src={still(SMALL)} alt="" loading="lazy" style={{ aspectRatio: ratio }} onError={() => setFails(true)}
        />
      </a>
      <Text size="xs" c="dimmed" className="figures" aria-hidden>
        {time}
      </Text>
    </li>
  );
}
