import { Button, Group, Select, Text, TextInput } from "@mantine/core";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { type FormEvent, useState } from "react";
import { useTranslation } from "react-i18next";
import { api, body } from "../../api/client";
import { problem } from "../../components/notify";
import type { Generator } from "./choices";
import type { Form } from "./NewJob";
import { applied, chosen, engineOf, type Preset } from "./presets";

interface Props extends Pick<Form, "choices" | "change"> {
  engine: Generator;
  kind: Preset["kind"];
  params: Preset["params"]; // as they are now
}

/** Settings by name: those of the engine, those of this service, one's own. */
export function PresetField({ engine, kind, params, choices, change }: Props) {
  const { t } = useTranslation("new");
  const [naming, setNaming] = useState(false);
  const presets = usePresets(engine.name);
  const now = chosen(presets, choices, engine);
  const about = (one: Preset) =>
    one.origin === "built-in"
      ? t(`preset.about.${engine.name}.${one.name}`, { defaultValue: one.about })
      : t(`preset.${one.origin}`);
  if (presets.length === 0) return null;
  const pick = (id: string | null) => {
    const preset = presets.find((one) => one.id === id);
    if (preset) change(applied(preset, choices));
  };
  const title = (one: Preset) =>
    one.origin === "built-in"
      ? t(`preset.name.${one.name}`, { defaultValue: one.name })
      : one.name;
  return (
    <div>
      <Group align="flex-end" gap="xs" wrap="nowrap">
        <Select
          label={t("preset.label")} value={now?.id ?? null} onChange={pick} allowDeselect={false}
          placeholder={t("preset.none")} style={{ flex: 1 }}
          data={presets.map((one) => ({ value: one.id, label: title(one) }))}
          renderOption={({ option }) => {
            const one = presets.find(({ id }) => id === option.value)!;
            return (
              <div>
                <Text size="sm">{option.label}</Text>
                <Text size="xs" c="dimmed">
                  {about(one)}
                </Text>
              </div>
            );
          }}
        />
        {now === undefined && !naming && (
          <Button variant="default" onClick={() => setNaming(true)}>
            {t("preset.keep")}
          </Button>
        )}
        {now?.origin === "own" && <Remove preset={now} />}
      </Group>
      {now && (
        <Text size="xs" c="dimmed" mt={5}>
          {about(now)}
        </Text>
      )}
      {naming && <Naming close={() => setNaming(false)} kind={kind} params={params} />}
    </div>
  );
}

function usePresets(engine: string) {
  const found = useQuery({
    queryKey: ["presets"],
    queryFn: () => body(api.GET("/api/v1/presets")),
  });
  return (found.data?.presets ?? []).filter((one) => engineOf(one) === engine);
}

function Naming({ close, kind, params }: { close: () => void } & Pick<Preset, "kind" | "params">) {
  const { t } = useTranslation("new");
  const queries = useQueryClient();
  const [name, setName] = useState("");
  const keep = useMutation({
    mutationFn: () =>
      body(api.POST("/api/v1/presets", { body: { name: name.trim(), kind, params: params as never, shared: false } })),
    onSuccess: () => {
      close();
      return queries.invalidateQueries({ queryKey: ["presets"] });
    },
  });
  const go = (event: FormEvent) => {
    event.preventDefault();
    keep.mutate();
  };
  return (
    <form onSubmit={go}>
      <Group align="flex-start" gap="xs" mt="xs">
        <TextInput
          aria-label={t("preset.called")} placeholder={t("preset.called")} value={name} maxLength={60}
          onChange={(event) => setName(event.currentTarget.value)} required data-autofocus autoFocus
          error={keep.error?.message} style={{ flex: 1 }}
        />
        <Button type="submit" loading={keep.isPending}>
          {t("preset.save")}
        </Button>
        <Button variant="default" onClick={close}>
          {t("common:cancel")}
        </Button>
      </Group>
    </form>
  );
}

function Remove({ preset }: { preset: Preset }) {
  const { t } = useTranslation("new");
  const queries = useQueryClient();
  const remove = useMutation({
    mutationFn: () =>
      api.DELETE("/api/v1/presets/{name}", { params: { path: { name: preset.id } } }),
    onSuccess: () => queries.invalidateQueries({ queryKey: ["presets"] }),
    onError: problem,
  });
  return (
    <Button variant="default" onClick={() => remove.mutate()} loading={remove.isPending}>
      {t("preset.remove")}
    </Button>
  );
}
