import { clean } from "./server";

export default clean;
