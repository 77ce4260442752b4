import { EventSource } from "eventsource";
import { tell } from "./telling.js";
import { follow } from "./with_eventsource.js";

await follow(EventSource, process.argv[2], tell);
