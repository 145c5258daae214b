// Sends one message by Go's net/smtp: smtp-client ADDRESS, with the message on standard input.
package main

import (
	"fmt"
	"io"
	"net/smtp"
	"os"
)

func main() {
	message, err := io.ReadAll(os.Stdin)
	if err == nil {
		to := []string{"one@example.net", "two@example.net"}
		err = smtp.SendMail(os.Args[1], nil, "app@shop.example", to, message)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
