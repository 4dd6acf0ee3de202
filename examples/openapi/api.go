package main

import (
	"encoding/json"
	"net/http"
	"sync/atomic"

	"example.com/authtrip/examples/openapi/notes"
)

//go:generate go run github.com/oapi-codegen/oapi-codegen/v2/cmd/oapi-codegen@v2.8.2 -config notes/config.yaml notes/notes.yaml

// A book is the API. It numbers the notes.
type book struct{ notes atomic.Int64 }

// AddNote implements the generated notes.ServerInterface.
func (b *book) AddNote(w http.ResponseWriter, r *http.Request) {
	var note notes.NewNote
	if err := json.NewDecoder(r.Body).Decode(&note); err != nil || note.Text == "" {
		http.Error(w, "want a note with text", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	_ = json.NewEncoder(w).Encode(notes.Note{Id: b.notes.Add(1), Text: note.Text}) // or the caller has gone
}
