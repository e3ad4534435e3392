import {
  ActionIcon, Alert, Anchor, AppShell, Burger, Button, Group, Menu, NavLink, Text,
  useMantineColorScheme,
} from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import {
  IconDeviceDesktop, IconLanguage, IconList, IconLogout, IconMoon, IconPackage, IconPlus,
  IconServer, IconSun,
} from "@tabler/icons-react";
import { useQueryClient } from "@tanstack/react-query";
import { type ReactNode, useEffect, useState } from "react";
import { useTranslation } from "react-i18next";
import { Link, useLocation } from "react-router";
import { address, api } from "../api/client";
import { listenStatus } from "../api/events";
import { LANGUAGES, type Language, speak } from "../i18n";

const PLACES = [
  { to: "/", name: "queue", icon: IconList },
  { to: "/new", name: "new", icon: IconPlus },
  { to: "/weights", name: "weights", icon: IconPackage },
  { to: "/system", name: "system", icon: IconServer },
] as const;

/** What surrounds every screen. */
export function Shell({ children }: { children: ReactNode }) {
  const { t } = useTranslation();
  const [opened, { toggle, close }] = useDisclosure();
  const { pathname } = useLocation();
  return (
    <AppShell
      header={{ height: 52 }}
      navbar={{ width: 200, breakpoint: "sm", collapsed: { mobile: !opened } }}
      padding="md"
    >
      <a href="#content" className="skip" onClick={focusContent}>
        {t("nav.skip")}
      </a>
      <AppShell.Header>
        <Group h="100%" px="md" gap="xs" wrap="nowrap">
          <Burger
            opened={opened} onClick={toggle} hiddenFrom="sm" size="sm" aria-label={t("nav.menu")}
            aria-expanded={opened}
          />
          <Anchor component={Link} to="/" underline="never" c="inherit">
            <Group gap={8} wrap="nowrap">
              <img src="./icon.svg" width={26} height={26} alt="" />
              <Text fw={700}>longtake</Text>
            </Group>
          </Anchor>
          <Group ml="auto" gap="xs" wrap="nowrap">
            <Tongue />
            <Scheme />
          </Group>
        </Group>
      </AppShell.Header>
      <AppShell.Navbar p="xs" aria-label={t("nav.main")}>
        {PLACES.map(({ to, name, icon: Icon }) => (
          <NavLink
            key={to} component={Link} to={to} label={t(`nav.${name}`)} onClick={close}
            leftSection={<Icon size={18} aria-hidden />} active={pathname === to}
            aria-current={pathname === to ? "page" : undefined}
          />
        ))}
        <SignOut />
      </AppShell.Navbar>
      <AppShell.Main id="content" tabIndex={-1}>
        <Connection />
        {children}
      </AppShell.Main>
    </AppShell>
  );
}

function focusContent(event: { preventDefault(): void }) {
  event.preventDefault(); // the address would be another page's: all are relative to <base>
  document.getElementById("content")?.focus();
}

function Connection() {
  const { t } = useTranslation();
  const [lost, setLost] = useState(false);
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const end = listenStatus((open) => {
      clearTimeout(timer);
      if (open) setLost(false);
      else timer = setTimeout(() => setLost(true), 4000);
    });
    return () => {
      clearTimeout(timer);
      end();
    };
  }, []);
  if (!lost) return null;
  return (
    <Alert color="yellow" mb="md" role="status">
      {t("offline")}
    </Alert>
  );
}

function Tongue() {
  const { t, i18n } = useTranslation();
  return (
    <Menu>
      <Menu.Target>
        <Button
          variant="subtle" size="compact-sm" color="gray" c="inherit"
          leftSection={<IconLanguage size={18} aria-hidden />} aria-label={`${t("look.language")}: ${LANGUAGES[i18n.language as Language]}`}
        >
          {LANGUAGES[i18n.language as Language]}
        </Button>
      </Menu.Target>
      <Menu.Dropdown>
        {Object.entries(LANGUAGES).map(([code, name]) => (
          <Menu.Item key={code} lang={code} onClick={() => speak(code as Language)}>
            {name}
          </Menu.Item>
        ))}
      </Menu.Dropdown>
    </Menu>
  );
}

const SCHEMES = { light: IconSun, dark: IconMoon, auto: IconDeviceDesktop } as const;

function Scheme() {
  const { t } = useTranslation();
  const { colorScheme, setColorScheme } = useMantineColorScheme();
  const Now = SCHEMES[colorScheme];
  return (
    <Menu>
      <Menu.Target>
        <ActionIcon variant="subtle" color="gray" c="inherit" aria-label={t("look.scheme")}>
          <Now size={18} aria-hidden />
        </ActionIcon>
      </Menu.Target>
      <Menu.Dropdown>
        {(["light", "dark", "auto"] as const).map((name) => {
          const Icon = SCHEMES[name];
          return (
            <Menu.Item
              key={name} leftSection={<Icon size={16} aria-hidden />}
              onClick={() => setColorScheme(name)}
            >
              {t(`look.${name}`)}
            </Menu.Item>
          );
        })}
      </Menu.Dropdown>
    </Menu>
  );
}

function SignOut() {
  const { t } = useTranslation();
  const queries = useQueryClient();
  const leave = async () => {
    await api.DELETE("/api/v1/auth/session").catch(() => null);
    queries.clear();
    window.location.assign(address("../../"));
  };
  return (
    <NavLink
      component="button" mt="auto" label={t("signOut")} onClick={() => void leave()}
      leftSection={<IconLogout size={18} aria-hidden />}
    />
  );
}
