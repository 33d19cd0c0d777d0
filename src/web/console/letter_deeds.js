// Putting dead letters away, and bringing them back.

import { money } from "../both/format.js";
import { t } from "../both/language.js";
import * as api from "./api.js";
import { ask, reasonField } from "./deed.js";
import { Refused } from "./trouble.js";

export function discard(choice, which, onDone) {
  ask({
    title: t("discard_title"), lead: `${which}. ${t("discard_lead")}`, fields: [reasonField()], confirm: t("discard"), danger: true,
    act: async ({ reason }) => {
      const { refused } = await api.discard(choice, reason);
      onDone();
      const open = refused.reduce((all, one) => all + one.open_fen, 0);
      if (refused.length > 0) throw new Refused(t("discard_refused", { n: refused.length, money: money(open) }));
    },
  });
}

export function restore(letters, which, onDone) {
  ask({
    title: t("restore_title"), lead: `${which}. ${t("restore_lead")}`, fields: [reasonField()], confirm: t("restore"),
    act: async ({ reason }) => { await api.restore(letters, reason); onDone(); },
  });
}
