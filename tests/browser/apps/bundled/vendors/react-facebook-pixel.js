import pixel from "react-facebook-pixel";
import { done } from "./kit";

pixel.init("1", { em: "visitor@example.test" });
pixel.pageView();
pixel.track("Purchase", { value: 1, currency: "USD" });
done();
