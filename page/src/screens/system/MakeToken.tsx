import { Alert, Button, Checkbox, Code, Group, NativeSelect, Stack, Text, TextInput } from "@mantine/core";
import { IconAlertTriangle, IconCopy } from "@tabler/icons-react";
import { type FormEvent, useState } from "react";
import { useTranslation } from "react-i18next";
import { told } from "../../components/notify";
import { copy } from "../../lib/copy";
import { type NewToken, useTokenChanges } from "./queries";

type Scope = NewToken["scopes"][number];

const SCOPES: Scope[] = ["jobs:read", "jobs:write", "assets:read", "assets:write", "admin"];
const DAYS = ["30", "90", "365", "0"];

/** Asks what a token may do, makes it, and shows it once. */
export function MakeToken({ close }: { close: () => void }) {
  const { issue } = useTokenChanges();
  if (issue.data !== undefined) return <Made token={issue.data} close={close} />;
  return <Form make={(wanted) => issue.mutate(wanted)} pending={issue.isPending} error={issue.error} close={close} />;
}

interface Asked {
  make: (wanted: NewToken) => void;
  pending: boolean;
  error: Error | null;
  close: () => void;
}

function Form({ make, pending, error, close }: Asked) {
  const { t } = useTranslation(["system", "common"]);
  const [name, setName] = useState("");
  const [scopes, setScopes] = useState<Scope[]>(SCOPES.filter((scope) => scope !== "admin"));
  const [days, setDays] = useState("90");
  const go = (event: FormEvent) => {
    event.preventDefault();
    make({ name: name.trim(), scopes, expires: days === "0" ? null : Number(days) * 86_400 });
  };
  return (
    <form onSubmit={go}>
      <Stack>
        {error && (
          <Alert color="red" variant="light" icon={<IconAlertTriangle aria-hidden />} role="alert" p="xs">
            <Text size="sm" c="var(--mantine-color-text)">
              {error.message}
            </Text>
          </Alert>
        )}
        <TextInput
          label={t("tokens.name")} description={t("tokens.nameHelp")} value={name} required maxLength={100}
          onChange={(event) => setName(event.currentTarget.value)} data-autofocus
        />
        <Checkbox.Group label={t("tokens.may")} value={scopes} onChange={(chosen) => setScopes(chosen as Scope[])}>
          <Stack gap="xs" mt="xs">
            {SCOPES.map((scope) => (
              <Checkbox key={scope} value={scope} label={t(`scope.${scope.replace(":", "_")}`)} />
            ))}
          </Stack>
        </Checkbox.Group>
        <NativeSelect
          label={t("tokens.good")} value={days} onChange={(event) => setDays(event.currentTarget.value)}
          data={DAYS.map((value) => ({
            value,
            label: value === "0" ? t("tokens.untilRevoked") : t("tokens.days", { count: Number(value) }),
          }))}
        />
        <Group justify="flex-end" gap="xs">
          <Button variant="default" onClick={close}>
            {t("common:cancel")}
          </Button>
          <Button type="submit" loading={pending} disabled={scopes.length === 0 || name.trim() === ""}>
            {t("tokens.make")}
          </Button>
        </Group>
      </Stack>
    </form>
  );
}

function Made({ token, close }: { token: string; close: () => void }) {
  const { t } = useTranslation("system");
  const take = async () => told(t((await copy(token)) ? "tokens.copied" : "tokens.notCopied"));
  return (
    <Stack>
      <Text size="sm">{t("tokens.once")}</Text>
      <Code block style={{ whiteSpace: "pre-wrap", overflowWrap: "anywhere" }}>
        {token}
      </Code>
      <Group justify="flex-end" gap="xs">
        <Button variant="default" onClick={() => void take()} leftSection={<IconCopy size={16} aria-hidden />} data-autofocus>
          {t("tokens.copy")}
        </Button>
        <Button onClick={close}>{t("tokens.done")}</Button>
      </Group>
    </Stack>
  );
}
