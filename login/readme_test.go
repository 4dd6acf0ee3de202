package login_test

import (
	"context"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	"example.com/authtrip"
	"example.com/authtrip/filestore"
	"example.com/authtrip/login"
)

// What the README shows is code that runs.
func TestREADMEShowsExamples(t *testing.T) {
	t.Parallel()
	text := func(path string) string {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	hidden := regexp.MustCompile(`(?m)^.*// not in the README\n`)
	examples := strings.Join(strings.Fields(hidden.ReplaceAllString(text("example_test.go"), "")), " ")
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(text("README.md"), -1)
	if len(blocks) < 2 {
		t.Fatalf("README has %d Go blocks", len(blocks))
	}
	for _, b := range blocks {
		if !strings.Contains(examples, strings.Join(strings.Fields(b[1]), " ")) {
			t.Errorf("not in example_test.go:\n%s", b[1])
		}
	}
}

// inEightLines is the login of the repository's README, which leaves out what is done about
// errors.
//
//nolint:ineffassign,staticcheck,wastedassign // as it says
func inEightLines(ctx context.Context, dir string) (*http.Client, *authtrip.UserInfo, error) {
	provider, err := login.Discover(ctx, "https://issuer.example")
	client := &login.Client{Provider: provider, ID: "my-cli"}
	session, err := (&login.Loopback{Client: client}).Login(ctx) // opens the browser
	src := client.Source()
	src.Store, src.Key = &filestore.Store{Dir: dir}, "default"
	err = src.SetToken(ctx, session.Token)
	api := &http.Client{Transport: &authtrip.Transport{Source: src}}
	user, err := client.UserInfoSource(src).UserInfo(ctx)
	return api, user, err
}

func TestLoginOfTheRootsREADMECompiles(t *testing.T) {
	t.Parallel()
	_ = inEightLines
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	here, err := os.ReadFile("readme_test.go")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(readme), "## A login\n")
	_, block, _ := strings.Cut(section, "```text\n")
	block, _, _ = strings.Cut(block, "```\n")
	if n := strings.Count(block, "\n"); n != 8 {
		t.Errorf("the login has %d lines, want 8", n)
	}
	rest := string(here)
	for line := range strings.Lines(block) {
		_, after, ok := strings.Cut(rest, "\n\t"+strings.TrimSuffix(line, "\n"))
		if !ok {
			t.Errorf("not compiled here, or in another order: %s", line)
		}
		rest = after
	}
}
