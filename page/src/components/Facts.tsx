import type { ReactNode } from "react";
import "./facts.css";

export type Fact = [name: string, value: ReactNode];

/** Names and values, one under the other; what has no value is left out. */
export function Facts({ facts }: { facts: (Fact | false | null)[] }) {
  return (
    <dl className="facts">
      {facts.map(
        (fact) =>
          fact && (
            <div key={fact[0]}>
              <dt>{fact[0]}</dt>
              <dd className="figures">{fact[1]}</dd>
            </div>
          ),
      )}
    </dl>
  );
}
