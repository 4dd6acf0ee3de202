package main

import (
	"bytes"
	"net/http"

	"github.com/coder/websocket"
)

// shout is the API. It answers each message in capital letters.
func shout(w http.ResponseWriter, r *http.Request) {
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		return // the client has its answer
	}
	defer func() { _ = conn.CloseNow() }()
	for {
		kind, b, err := conn.Read(r.Context())
		if err != nil {
			return // the client has closed
		}
		if err := conn.Write(r.Context(), kind, bytes.ToUpper(b)); err != nil {
			return
		}
	}
}
