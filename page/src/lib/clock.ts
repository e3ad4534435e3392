import { useEffect, useState } from "react";

let ahead = 0; // ms that the service's clock is before the browser's

/** Learn the service's time from one of its answers. */
export function hearTime(response: Response) {
  const at = Date.parse(response.headers.get("date") ?? "");
  if (!Number.isNaN(at)) ahead = at - Date.now();
}

/** The service's time in microseconds, again every second while `running`. */
export function useNow(running = true): number {
  const [now, setNow] = useState(() => Date.now());
  useEffect(() => {
    if (!running) return;
    const timer = setInterval(() => setNow(Date.now()), 1000);
    return () => clearInterval(timer);
  }, [running]);
  return (now + ahead) * 1000;
}
