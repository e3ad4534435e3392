import type { ReactNode } from "react";

/** Room for a table that may be wider than the screen; scrolls by keyboard, too. */
export function Scroll({ label, children }: { label: string; children: ReactNode }) {
  return (
    <div role="group" aria-label={label} tabIndex={0} style={{ overflowX: "auto", position: "relative" }}>
      {children}
    </div>
  );
}
