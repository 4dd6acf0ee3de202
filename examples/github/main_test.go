package main

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-github/v92/github"

	"example.com/authtrip"
	"example.com/authtrip/authtriptest"
	"example.com/authtrip/examples/internal/scene"
)

func TestRun(t *testing.T) {
	t.Parallel()
	out := scene.Check(t, run, "just logged in 1 0 0", "token revoked 2 1 1", "token expired 1 0 1")
	for _, want := range []string{"#1 The mill jams", "#2 The mill jams", "#3 The mill jams"} {
		if !strings.Contains(out, want) {
			t.Errorf("there is no %q in\n%s", want, out)
		}
	}
}

// TestUploadAfterRevocation uploads more than a Transport would keep.
func TestUploadAfterRevocation(t *testing.T) {
	t.Parallel()
	const size = 1 << 20
	s := scene.Start(scene.API{Handler: api(), Refuse: refuse})
	src := &authtrip.Source{Refresher: authtrip.RefreshToken(s.Config), Initial: s.Login}
	defer s.End(src)
	client, err := newClient(src, s.URL)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "engine.bin")
	if err = os.WriteFile(path, make([]byte, size), 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	s.RevokeToken()
	asset, _, err := client.Repositories.UploadReleaseAsset(t.Context(), "ada", "engine", 1, &github.UploadOptions{Name: "engine"}, file)
	if err != nil || asset.GetSize() != size {
		t.Errorf("%d bytes have arrived, %v; want %d", asset.GetSize(), err, size)
	}
}

func TestAssetOnAnotherHost(t *testing.T) {
	t.Parallel()
	files := authtriptest.Start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			t.Error("the other host has got the token")
		}
		_, _ = io.WriteString(w, "gears")
	}))
	s := scene.Start(scene.API{Refuse: refuse, Handler: http.RedirectHandler(files.URL, http.StatusFound)})
	src := &authtrip.Source{Refresher: authtrip.RefreshToken(s.Config), Initial: s.Login}
	defer s.End(src)
	client, err := newClient(src, s.URL)
	if err != nil {
		t.Fatal(err)
	}
	body, _, err := client.Repositories.DownloadReleaseAsset(t.Context(), "ada", "engine", 1, client.Client())
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	if b, err := io.ReadAll(body); err != nil || string(b) != "gears" {
		t.Errorf("the asset is %q, %v", b, err)
	}
}
