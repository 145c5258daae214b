// Sends one message by nodemailer: node send.js HOST PORT, with the message on standard input.
const fs = require("fs");
const nodemailer = require("nodemailer");

const [host, port] = process.argv.slice(2);
const transport = nodemailer.createTransport({ host, port: Number(port), secure: false, ignoreTLS: true });
const envelope = { from: "app@shop.example", to: ["one@example.net", "two@example.net"] };
transport
  .sendMail({ envelope, raw: fs.readFileSync(0) })
  .catch((error) => {
    console.error(error.message);
    process.exitCode = 1;
  })
  .finally(() => transport.close());
