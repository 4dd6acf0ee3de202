package scene

import (
	"bytes"
	"context"
	"io"
	"regexp"
	"strings"
	"testing"
)

// Check runs a program and compares the rows that Play has written: a name, the
// requests that the API got, those of them that it refused, and the requests for
// tokens. The output, which it returns, must have no token in it.
func Check(t *testing.T, run func(context.Context, io.Writer) error, rows ...string) string {
	t.Helper()
	var out bytes.Buffer
	if err := run(t.Context(), &out); err != nil {
		t.Fatalf("run() = %v after\n%s", err, &out)
	}
	t.Logf("\n%s", &out)
	got := regexp.MustCompile(`(?m)^(.*?)((?: +\d+){3})$`).FindAllString(out.String(), -1)
	for i := range got {
		got[i] = strings.Join(strings.Fields(got[i]), " ")
	}
	if g, w := strings.Join(got, "\n"), strings.Join(rows, "\n"); g != w {
		t.Errorf("the rows are\n%s\nwant\n%s", g, w)
	}
	if token := regexp.MustCompile(`[A-Za-z0-9_.-]{24,}`).FindString(out.String()); token != "" {
		t.Errorf("the output has %q in it, which may be a token", token)
	}
	return out.String()
}
