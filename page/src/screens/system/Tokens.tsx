import { Anchor, Button, Group, Modal, Table, Text, VisuallyHidden } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { modals } from "@mantine/modals";
import { IconPlus } from "@tabler/icons-react";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import { Scroll } from "../../components/Scroll";
import { Section } from "../../components/Section";
import { useNow } from "../../lib/clock";
import { time } from "../../lib/format";
import { MakeToken } from "./MakeToken";
import { type Token, useTokenChanges, useTokens } from "./queries";

/** Keys for scripts and other machines. */
export function Tokens() {
  const { t } = useTranslation(["system", "common"]);
  const tokens = useTokens();
  const now = useNow(false);
  const [asks, { open, close }] = useDisclosure();
  const [showsDead, setShowsDead] = useState(false);
  const all = tokens.data ?? [];
  const isDead = (token: Token) => token.revoked !== null || (token.expires !== null && token.expires <= now);
  const dead = all.filter(isDead);
  const shown = showsDead ? all : all.filter((token) => !isDead(token));
  return (
    <Section
      title={t("tokens.title")}
      aside={
        <Button size="compact-sm" variant="default" onClick={open} leftSection={<IconPlus size={14} aria-hidden />}>
          {t("tokens.new")}
        </Button>
      }
    >
      <Text size="sm" c="dimmed">
        {t("tokens.about")}
      </Text>
      {shown.length > 0 && (
        <Scroll label={t("tokens.title")}>
          <Table className="figures" verticalSpacing={6} miw={780}>
            <Table.Thead>
              <Table.Tr>
                {["name", "begins", "scopes", "created", "used", "expires"].map((name) => (
                  <Table.Th key={name}>{t(`tokens.${name}`)}</Table.Th>
                ))}
                <Table.Th>
                  <VisuallyHidden>{t("tokens.actions")}</VisuallyHidden>
                </Table.Th>
              </Table.Tr>
            </Table.Thead>
            <Table.Tbody>
              {shown.map((token) => (
                <Row key={token.id} token={token} dead={isDead(token)} />
              ))}
            </Table.Tbody>
          </Table>
        </Scroll>
      )}
      {dead.length > 0 && (
        <Group>
          <Anchor component="button" type="button" size="sm" aria-expanded={showsDead} onClick={() => setShowsDead(!showsDead)}>
            {t(showsDead ? "tokens.hideDead" : "tokens.dead", { count: dead.length })}
          </Anchor>
        </Group>
      )}
      <Modal
        opened={asks} onClose={close} title={t("tokens.new")} centered
        closeButtonProps={{ "aria-label": t("common:close") }} closeOnClickOutside={false}
      >
        <MakeToken close={close} />
      </Modal>
    </Section>
  );
}

function Row({ token, dead }: { token: Token; dead: boolean }) {
  const { t, i18n } = useTranslation(["system", "common"]);
  const { revoke } = useTokenChanges();
  const when = (at: number | null) => time(at, i18n.language);
  const ask = () =>
    modals.openConfirmModal({
      title: t("tokens.revokeTitle", { name: token.name }),
      centered: true,
      children: <Text size="sm">{t("tokens.revokeHelp")}</Text>,
      labels: { confirm: t("tokens.revoke"), cancel: t("common:cancel") },
      confirmProps: { color: "red" },
      closeButtonProps: { "aria-label": t("common:close") },
      onConfirm: () => revoke.mutate(token.id),
    });
  return (
    <Table.Tr style={{ verticalAlign: "top" }}>
      <Table.Td style={{ overflowWrap: "anywhere", minWidth: "8rem" }}>{token.name}</Table.Td>
      <Table.Td style={{ whiteSpace: "nowrap" }}>lt_{token.prefix}…</Table.Td>
      <Table.Td>{token.scopes.join(", ")}</Table.Td>
      <Table.Td style={{ whiteSpace: "nowrap" }}>{when(token.created)}</Table.Td>
      <Table.Td style={{ whiteSpace: "nowrap" }}>{token.used === null ? t("tokens.never") : when(token.used)}</Table.Td>
      <Table.Td style={{ whiteSpace: "nowrap" }}>
        {token.revoked !== null
          ? t("tokens.revoked", { when: when(token.revoked) })
          : token.expires === null ? t("tokens.lasting") : when(token.expires)}
      </Table.Td>
      <Table.Td>
        {!dead && (
          <Group justify="flex-end">
            <Button
              size="compact-sm" variant="default" loading={revoke.isPending} onClick={ask}
              aria-label={t("tokens.revokeName", { name: token.name })}
            >
              {t("tokens.revoke")}
            </Button>
          </Group>
        )}
      </Table.Td>
    </Table.Tr>
  );
}
