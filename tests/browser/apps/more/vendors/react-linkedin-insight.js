import LinkedInTag from "react-linkedin-insight";
import { done } from "../../bundled/vendors/kit";

LinkedInTag.init("1", "dc", false);
LinkedInTag.track("2");
done();
