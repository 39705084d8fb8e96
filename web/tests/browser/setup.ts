import { prepare } from "./server";

export default prepare;
