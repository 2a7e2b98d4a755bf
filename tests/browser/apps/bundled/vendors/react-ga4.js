import ReactGA from "react-ga4";
import { done } from "./kit";

ReactGA.initialize("G-OPTGATE");
ReactGA.send({ hitType: "pageview", page: "/made" });
ReactGA.event({ category: "made", action: "up" });
new Image().src = "https://www.google-analytics.com/g/collect?v=2&tid=G-OPTGATE";
done();
