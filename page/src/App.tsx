import { Center, Loader } from "@mantine/core";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { lazy, Suspense, useEffect } from "react";
import { useTranslation } from "react-i18next";
import { Route, Routes } from "react-router";
import { api, body, Problem } from "./api/client";
import { follow, refresh } from "./api/events";
import { Fault } from "./components/Fault";
import { Shell } from "./components/Shell";
import { Nowhere } from "./screens/Nowhere";
import { Queue } from "./screens/queue/Queue";
import { SignIn } from "./screens/SignIn";

// What the first screen does not need comes a little later.
const SCREENS = {
  NewJob: () => import("./screens/new/NewJob").then((m) => ({ default: m.NewJob })),
  JobScreen: () => import("./screens/job/JobScreen").then((m) => ({ default: m.JobScreen })),
  Weights: () => import("./screens/weights/Weights").then((m) => ({ default: m.Weights })),
  System: () => import("./screens/system/System").then((m) => ({ default: m.System })),
};
const NewJob = lazy(SCREENS.NewJob);
const JobScreen = lazy(SCREENS.JobScreen);
const Weights = lazy(SCREENS.Weights);
const System = lazy(SCREENS.System);

/** The page for who is signed in; for others the way in. */
export function App() {
  const { t } = useTranslation();
  const who = useQuery({ queryKey: ["session"], queryFn: enter, staleTime: Infinity });
  if (who.isPending)
    return (
      <Center h="100vh">
        <Loader aria-label={t("loading")} />
      </Center>
    );
  if (who.error instanceof Problem && who.error.status === 401) return <SignIn />;
  if (who.isError) return <Fault error={who.error} again={() => void who.refetch()} />;
  return <Inside />;
}

function Inside() {
  const { t } = useTranslation();
  const queries = useQueryClient();
  useEffect(() => {
    const ends = [refresh(queries), follow()];
    return () => ends.forEach((end) => end());
  }, [queries]);
  useEffect(() => {
    const timer = setTimeout(() => Object.values(SCREENS).forEach((fetch) => void fetch()), 2000);
    return () => clearTimeout(timer);
  }, []);
  return (
    <Shell>
      <Suspense fallback={<Loader aria-label={t("loading")} />}>
        <Routes>
          <Route index element={<Queue />} />
          <Route path="new" element={<NewJob />} />
          <Route path="jobs/:id" element={<JobScreen />} />
          <Route path="weights" element={<Weights />} />
          <Route path="system" element={<System />} />
          <Route path="*" element={<Nowhere />} />
        </Routes>
      </Suspense>
    </Shell>
  );
}

/** Who is signed in. The token of the address that the service printed is exchanged first, and
 * taken out of the address, which others may see. */
async function enter() {
  const address = new URL(window.location.href);
  const token = address.searchParams.get("token");
  if (token !== null) {
    address.searchParams.delete("token");
    window.history.replaceState(window.history.state, "", address);
    await api.POST("/api/v1/auth/session", { body: { token } }).catch(() => null); // perhaps there is a session
  }
  return body(api.GET("/api/v1/auth/session"));
}
