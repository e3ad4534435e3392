import { Accordion, Button, Group, SimpleGrid, Stack, Text, Title } from "@mantine/core";
import type { ReactNode } from "react";
import { useTranslation } from "react-i18next";
import { type Generator, withKnob } from "./choices";
import { KnobField } from "./KnobField";
import { Encoder, JobFields, LimitFields, SourceFields } from "./MoreFields";
import type { Form } from "./NewJob";

interface Props {
  engine: Generator;
  form: Form;
  source?: boolean; // whether a film is read
  without?: readonly string[]; // knobs that are shown elsewhere
}

/** Everything that can be set, folded away. */
export function AllSettings({ engine, form, source = true, without = [] }: Props) {
  const { t } = useTranslation("new");
  const { choices, change, cut, setCut } = form;
  const set = choices.knobs[engine.name] ?? {};
  const count = Object.keys(set).length + Object.keys(choices.more).length
    + Number(cut.first !== null || cut.stop !== null) + Number(choices.priority !== 0)
    + Number(choices.keep !== "partial");
  const reset = () => {
    change({ knobs: { ...choices.knobs, [engine.name]: {} }, more: {}, priority: 0, keep: "partial" });
    setCut({ first: null, stop: null });
  };
  return (
    <Accordion variant="contained" order={3} keepMounted={false}>
      <Accordion.Item value="all">
        <Accordion.Control>
          <Group gap="xs">
            <Text span size="sm" fw={600}>
              {t("all.title")}
            </Text>
            {count > 0 && (
              <Text span size="xs" c="dimmed">
                {t("all.changed", { count })}
              </Text>
            )}
          </Group>
        </Accordion.Control>
        <Accordion.Panel>
          <Stack gap="lg">
            <Part title={t("all.engine", { name: engine.name })}>
              {engine.knobs.filter(({ name }) => !without.includes(name)).map((knob) => (
                <KnobField
                  key={knob.name} knob={knob} value={set[knob.name] ?? knob.default}
                  change={(value) => change({ knobs: withKnob(choices, knob, value, engine.name) })}
                />
              ))}
            </Part>
            {source && (
              <Part title={t("all.source")}>
                <SourceFields form={form} />
              </Part>
            )}
            <Part title={t("all.encoder")}>
              <Encoder form={form} />
            </Part>
            <Part title={t("all.limits")}>
              <LimitFields form={form} />
            </Part>
            <Part title={t("all.job")}>
              <JobFields form={form} />
            </Part>
            {count > 0 && (
              <Button variant="default" onClick={reset} style={{ alignSelf: "flex-start" }}>
                {t("all.reset")}
              </Button>
            )}
          </Stack>
        </Accordion.Panel>
      </Accordion.Item>
    </Accordion>
  );
}

function Part({ title, children }: { title: string; children: ReactNode }) {
  return (
    <section>
      <Title order={4} size="h6" mb="xs">
        {title}
      </Title>
      <SimpleGrid cols={{ base: 1, xs: 2 }} spacing="md" verticalSpacing="sm">
        {children}
      </SimpleGrid>
    </section>
  );
}
