import { notifications } from "@mantine/notifications";

/** A refusal in the service's own words. */
export function problem(error: Error) {
  notifications.show({ color: "red", message: error.message, autoClose: 12_000, role: "alert" });
}

/** Something was done that is not seen otherwise. */
export function told(message: string) {
  notifications.show({ message, role: "status" });
}
