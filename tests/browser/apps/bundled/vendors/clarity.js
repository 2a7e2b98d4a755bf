import clarity from "@microsoft/clarity";
import { done } from "./kit";

clarity.init("optgate");
clarity.identify("visitor");
clarity.event("made");
clarity.setTag("plan", "made up");
done();
