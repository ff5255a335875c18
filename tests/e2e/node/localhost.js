// Every name under .localhost is loopback (RFC 6761, section 6.3); not every resolver knows.
import dns from "node:dns";

const lookup = dns.lookup;
dns.lookup = (name, options, done) =>
  /(^|\.)localhost$/.test(name) ? lookup("127.0.0.1", options, done) : lookup(name, options, done);
