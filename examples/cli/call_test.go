package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestCall: what arrives at the API, and what comes back.
func TestCall(t *testing.T) {
	t.Parallel()
	r := newRig(t, aMinute)
	r.must("login")
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		if req.URL.Path == "/teapot" {
			w.WriteHeader(http.StatusTeapot)
		}
		fmt.Fprintf(w, "%s %s %q %s %s", req.Method, req.URL.Path, body, req.Header.Get("Content-Type"), req.Header.Values("X-Word"))
	}))
	t.Cleanup(api.Close)
	r.env["AUTHTRIP_API"] = api.URL
	file := filepath.Join(t.TempDir(), "body")
	if err := os.WriteFile(file, []byte("from a file"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, missing := os.Open(file + "s")
	for _, tt := range []struct {
		name string
		args []string
		want result
	}{
		{"get", []string{api.URL + "/a"}, result{out: `GET /a ""  []`}},
		{"method", []string{"-X", "DELETE", "/a"}, result{out: `DELETE /a ""  []`}},
		{"body", []string{"-d", "{}", "/a"}, result{out: `POST /a "{}" application/json []`}},
		{"standard input", []string{"-X", "PUT", "-d", "@-", "/a"}, result{out: `PUT /a "comes in" application/json []`}},
		{"file", []string{"-d", "@" + file, "/a"}, result{out: `POST /a "from a file" application/json []`}},
		{"no file", []string{"-d", "@" + file + "s", "/a"}, result{code: exitUsage, err: "cli: " + missing.Error() + "\n"}},
		{"headers", []string{"-H", "X-Word: a", "-H", "x-word:b", "-H", "Content-Type: text/plain", "-d", "x", "/a"}, result{out: `POST /a "x" text/plain [a b]`}},
		{"refusal", []string{"/teapot"}, result{out: `GET /teapot ""  []`, code: exitHTTP, err: "cli: the API answered 418 I'm a teapot\n"}},
		{"two URLs", []string{"/a", "/b"}, result{code: exitUsage, err: "cli: cli call takes one URL, behind its flags\n"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := r.runWith(strings.NewReader("comes in"), append([]string{"call"}, tt.args...)...)
			if got != tt.want {
				t.Errorf("got  %+v\nwant %+v", got, tt.want)
			}
		})
	}
}

// TestRefusedBody: the API does not take the token any more. A file is sent again
// with another one; what came in is gone, the user is told, and the next call has
// the other one.
func TestRefusedBody(t *testing.T) {
	t.Parallel()
	const size = 8 << 20
	body := strings.Repeat("x", size)
	want := fmt.Sprintf(`{"bytes":%d,"of":"42"}`+"\n", size)
	file := filepath.Join(t.TempDir(), "body")
	if err := os.WriteFile(file, []byte(body), 0o600); err != nil {
		t.Fatal(err)
	}
	r := newRig(t, aMinute)
	r.must("login")
	r.revokeAccess()
	if got := r.must("call", "-d", "@"+file, "/notes"); got != want {
		t.Errorf("a file: %q, want %q", got, want)
	}
	r.revokeAccess()
	got := r.runWith(strings.NewReader(body), "call", "-d", "@-", "/notes")
	if got.code != exitHTTP || !strings.Contains(got.err, "run the command again\n") {
		t.Errorf("what came in: %+v, want that it is to be sent again", got)
	}
	if got := r.runWith(strings.NewReader(body), "call", "-d", "@-", "/notes"); got != (result{out: want}) {
		t.Errorf("and again: %+v, want %q", got, want)
	}
}
