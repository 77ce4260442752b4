import { createParser } from "eventsource-parser";
import { tell } from "./telling.js";
import { follow } from "./with_fetch.js";

await follow(createParser, process.argv[2], tell);
