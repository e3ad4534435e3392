import { Group, Text } from "@mantine/core";
import { type KeyboardEvent, memo, type PointerEvent, useMemo, useRef, useState } from "react";
import { useTranslation } from "react-i18next";
import { number } from "../../lib/format";
import type { Step } from "./queries";
import "./segments.css";
import { attemptOf, type Cell, cell, counts, isAgain, spans, standing, STANDINGS } from "./segments";

/** One square for each segment: how it stands by colour and mark. Pointer and arrow keys ask for
 * one of them; to assistive technology it is a slider over the segments that reads each aloud. */
export function SegmentMap({ segments }: { segments: Step[] }) {
  const { t, i18n } = useTranslation("job");
  const map = useRef<HTMLDivElement>(null);
  const [active, setActive] = useState<number | null>(null);
  const say = useDetail(segments);
  const last = segments.length - 1;
  const shown = active === null ? null : Math.min(active, last);

  const keys = (event: KeyboardEvent) => {
    const row = columns(map.current);
    const by: Record<string, number> = {
      ArrowRight: 1, ArrowLeft: -1, ArrowDown: row, ArrowUp: -row, PageDown: 10 * row,
      PageUp: -10 * row, Home: -Infinity, End: Infinity,
    };
    const step = by[event.key];
    if (step === undefined) return;
    event.preventDefault();
    setActive(Math.max(0, Math.min(last, (shown ?? 0) + step)));
  };
  const point = (event: PointerEvent) => {
    const place = (event.target as HTMLElement).dataset.place;
    if (place !== undefined) setActive(Number(place));
  };
  const leave = () => document.activeElement !== map.current && setActive(null);

  return (
    <div>
      <div
        ref={map} className="segmap" role="slider" tabIndex={0} aria-label={t("map.label")}
        aria-valuemin={0} aria-valuemax={last} aria-valuenow={shown ?? 0}
        aria-valuetext={say(shown ?? 0)} data-many={last >= 100 || undefined}
        data-crowd={last >= 600 || undefined} onKeyDown={keys} onPointerOver={point}
        onPointerDown={point} onPointerLeave={leave} onBlur={() => setActive(null)}
        onFocus={() => setActive((now) => now ?? Math.max(0, segments.findIndex((s) => s.state !== "done")))}
      >
        {segments.map((step, place) => {
          const { standing, again, made } = cell(step);
          return (
            <Square
              key={step.number} place={place} standing={standing} again={again} made={made}
              active={place === shown}
            />
          );
        })}
      </div>
      <Text size="sm" mt="xs" mih={22} className="figures" c={shown === null ? "dimmed" : undefined}>
        {shown === null ? t("map.hint") : say(shown)}
      </Text>
      <Legend segments={segments} language={i18n.language} />
    </div>
  );
}

const Square = memo(function Square({
  place, standing, again, made, active,
}: Omit<Cell, "number"> & { place: number; active: boolean }) {
  const style = standing === "leased" ? ({ "--made": `${made}%` } as React.CSSProperties) : undefined;
  return (
    <span
      className="seg" data-place={place} data-standing={standing} data-again={again || undefined}
      data-active={active || undefined} style={style}
    />
  );
});

function Legend({ segments, language }: { segments: Step[]; language: string }) {
  const { t } = useTranslation("job");
  const found = counts(segments);
  const again = segments.filter(isAgain).length;
  return (
    <Group gap="md" mt={4} className="figures">
      {STANDINGS.filter((name) => found[name] > 0).map((name) => (
        <Group key={name} gap={6} wrap="nowrap">
          <span className="seg" data-standing={name} aria-hidden />
          <Text size="sm">
            {t(`map.${name}`)} {number(found[name], language)}
          </Text>
        </Group>
      ))}
      {again > 0 && (
        <Group gap={6} wrap="nowrap">
          <span className="seg" data-again aria-hidden />
          <Text size="sm">
            {t("map.again")} {number(again, language)}
          </Text>
        </Group>
      )}
    </Group>
  );
}

/** The words for the segment at a place. */
function useDetail(segments: Step[]): (place: number) => string {
  const { t, i18n } = useTranslation("job");
  const frames = useMemo(() => spans(segments), [segments]);
  return (place) => {
    const step = segments[place];
    const span = frames[place];
    if (!step || !span) return "";
    const figure = (value: number) => number(value, i18n.language);
    const parts = [
      t("map.segment", { number: figure(step.number) }),
      t("map.frames", { from: figure(span[0]), to: figure(span[1]) }),
    ];
    const how = standing(step);
    if (isAgain(step)) parts.push(t(`again.${how}${Math.min(attemptOf(step), 3)}`));
    else parts.push(t(`map.${how}`));
    if (how === "leased") parts.push(t("map.made", { here: figure(step.frames_done), of: figure(step.frames) }));
    if (how === "done" && step.attempts > 1) parts.push(t("map.tries", { count: step.attempts }));
    if (step.worker && (how === "leased" || how === "done")) parts.push(step.worker);
    if (step.error && how === "failed") parts.push(step.error);
    return parts.join(" · ");
  };
}

const columns = (map: HTMLElement | null) =>
  map ? getComputedStyle(map).gridTemplateColumns.split(" ").length : 1;
