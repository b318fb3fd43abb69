// SPDX-License-Identifier: Apache-2.0
// net/http: the first argument's body on standard output, fetched eight times at once.
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
)

func main() {
	bodies := make(chan []byte)
	for range 8 {
		go func() {
			// A transport of its own is a connection of its own.
			client := &http.Client{Transport: &http.Transport{}}
			response, err := client.Get(os.Args[1])
			if err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			body, _ := io.ReadAll(response.Body)
			bodies <- body
		}()
	}
	first := <-bodies
	for range 7 {
		if string(<-bodies) != string(first) {
			os.Exit(2)
		}
	}
	os.Stdout.Write(first)
}
