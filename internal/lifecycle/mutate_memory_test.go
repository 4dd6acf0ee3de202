package lifecycle

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// memoryBreaks are guards of memory.go, each replaced by something that does not
// guard. same says why nothing changes, where nothing does.
var memoryBreaks = []struct{ from, to, same string }{
	{"case c > 0 || c == 0 && m.twin:", "case c > 0:", ""},
	{"case c < 0:\n\t\treturn Older", "case c < 0:\n\t\treturn Same", ""},
	{"marking.Owner != m.Self && !unchanged:", "marking.Owner != m.Self && false:", ""},
	{"marking.Owner != m.Self && marking.Owner != \"\":", "marking.Owner != m.Self && false:", ""},
	{"doubt := m.Doubt || marking.Doubt", "doubt := m.Doubt", ""},
	{"doubt := m.Doubt || marking.Doubt", "doubt := marking.Doubt", ""},
	{"case m.ready && doubt:", "case m.ready && false:", ""},
	{"\tcase m.ready:\n\t\treturn Ready", "\tcase marking.There && marking.Owner == m.Self:\n\t\treturn Ready", ""},
	{"\tm.lease = NotTaken\n\tm.forget()", "\tm.forget()", ""},
	{"\tm.lease = NotTaken\n\tm.forget()", "\tm.lease = NotTaken", ""},
	{"m.sent, m.told = false, false, false, false", "m.sent, m.told = false, m.ready, false, false", ""},
	{"m.sent, m.told = false, false, false, false", "m.sent, m.told = false, false, m.sent, false", ""},
	{"m.sent, m.told = false, false, false, false", "m.sent, m.told = false, false, false, m.told", ""},
	{"case m.told:\n\t\treturn Answered\n", "", ""},
	{"= m.Doubt || m.read.Marking.Doubt", "= m.Doubt", ""},
	{"= m.Doubt || m.read.Marking.Doubt", "= m.read.Marking.Doubt", ""},
	{"m.told = o == Unclear && m.ready", "m.told = m.ready", ""},
	{"m.told = o == Unclear && m.ready", "m.told = o == Unclear", "who sends without a marker has no record to take one back from"},
	{"m.told = o == Unclear && m.ready", "m.told = false", ""},
	{"said != HasRecord || m.order() != Same", "said != HasRecord", ""},
	{"\tcase rec.Ended:\n\t\tm.End = Ended\n\tcase m.End == Ended:", "\tcase m.End == Ended && !rec.Ended:", ""},
	{"m.End = Refused // the Store lost it", "// the Store lost it", ""},
	{"\t\tm.Know(m.read.Position)\n", "\t\tm.Known, m.Newest = m.read.Position, Settled\n", ""},
	{"\t\tif m.read.Ended {\n\t\t\tm.End = Ended\n\t\t}\n\t\tm.twin = false", "\t\tm.twin = false", ""},
	{"\t\tm.twin = false\n\tcase care == Free:", "\tcase care == Free:", ""},
	{"m.Newest = Settled // it can be had again", "m.Newest = Loose // it can be had again", ""},
	{"\tdefault:\n\t\tm.Newest = Loose", "\tdefault:\n\t\tm.Newest = Settled", ""},
	{"= p, Settled, Alive, false\n", "= p, Settled, m.End, false\n", ""},
	{"= p, Settled, Alive, false\n", "= p, Settled, Alive, m.Doubt\n", ""},
	{"\tif p.IsLogout() {\n\t\tm.End = LoggedOut\n\t}\n", "", ""},
	{"\tm.Know(p)\n\tm.Newest = Held", "\tm.Know(p)", ""},
	{"case care == Free, m.sent, first, m.Known.IsLogout():", "case care == Free, first, m.Known.IsLogout():", ""},
	{"case care == Free, m.sent, first, m.Known.IsLogout():", "case care == Free, m.sent, first && false, m.Known.IsLogout():", ""},
	{"case care == Free, m.sent, first, m.Known.IsLogout():", "case m.sent, first, m.Known.IsLogout():", ""},
	{"m.Newest == Settled && m.stored == HasRecord && m.order() == Same:", "false:", ""},
	{"m.Newest == Settled && m.stored == HasRecord && m.order() == Same:", "true:", ""},
	{"draft.Ended = m.End != Alive", "draft.Ended = false", ""},
	{"draft.Ended = m.End != Alive", "draft.Ended = true", ""},
	{"draft.Marking = Marking{There: true, Doubt: m.Doubt}", "", ""},
	{"draft.Marking = Marking{There: true, Doubt: m.Doubt}", "draft.Marking = Marking{There: true}", ""},
	{"draft.Marking = Marking{There: true, Doubt: m.Doubt}", "draft.Marking = Marking{There: true, Doubt: m.Doubt, Owner: m.Self}", ""},
	{"\tm.stored, m.read = HasRecord, draft", "\tm.stored = HasRecord", ""},
	{"\tcase draft.Ended:\n\t\tm.End = Ended\n", "", ""},
	{"\tm.forget()\n\tm.stored = NoAnswer", "\tm.forget()", ""},
	{"\tif waited {\n\t\tm.forget()\n\t}", "", "the compare-and-set of the marker is a second look; without this one it costs a conflict"},
	{"Doubt: k == Used || k == OtherOld", "Doubt: k == Used", ""},
	{"Doubt: k == Used || k == OtherOld", "Doubt: k == OtherOld", ""},
	{"m.lease, m.ready = NotTaken, false", "m.ready = false", ""},
	{"m.lease, m.ready = NotTaken, false", "m.lease = NotTaken", ""},
	{"\tif m.Known != parent {\n\t\tm.forget()\n\t\treturn false\n\t}", "", ""},
	{"\t\tm.sent = m.ready\n", "\t\tm.sent = true\n", "who sends without a marker has no Store to save to in that round"},
	{"\t\tm.sent = m.ready\n", "", ""},
	{"m.End, m.Doubt = Refused, false", "m.Doubt = false", ""},
	{"\t\tm.forget() // somebody else", "\t\t// somebody else", "what follows is a compare-and-set on the version of the marker, which is a second look"},
	{"m.Doubt = m.Doubt || care != Free\n", "", ""},
	{"&& m.ready\n\t\tm.ready = false\n", "&& m.ready\n", ""},
	{"case NotProcessed: // the", "case NotProcessed:\n\t\tm.ready = false // the", ""},
	{"case NotProcessed: // the", "case NotProcessed:\n\t\tm.Doubt = true // the", ""},
	{"= p, Held, Alive, false, false", "= p, Settled, Alive, false, false", ""},
	{"= p, Held, Alive, false, false", "= p, Held, Alive, m.Doubt, false", ""},
	{"\tcase m.Known != parent:\n\t\treturn false\n", "", ""},
	{"\tcase parent == (Position{}):\n\t\tm.follow(Position{Login: 1})\n", "", ""},
	{"\tdefault:\n\t\tm.follow(Position{parent.Login, parent.Generation + 1})", "\tdefault:\n\t\tm.follow(parent)", ""},
}

// The short form only holds the list to memory.go. The long form compiles each break
// over memory.go, and runs the small explorations with it.
func TestEveryBreakOfTheMemoryIsFound(t *testing.T) {
	shipped, err := os.ReadFile("memory.go")
	if err != nil {
		t.Fatal(err)
	}
	here, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	for n, b := range memoryBreaks {
		if strings.Count(string(shipped), b.from) != 1 {
			t.Errorf("break %d: memory.go does not have this once: %s", n, b.from)
			continue
		}
		if !long || t.Failed() && n == 0 {
			continue
		}
		broken := strings.Replace(string(shipped), b.from, b.to, 1)
		found := runOver(t, here, broken)
		switch {
		case found == "" && b.same == "":
			t.Errorf("not found: %q for %q", b.to, b.from)
		case found != "" && b.same != "":
			t.Errorf("found, though it says that nothing changes: %q for %q: %s", b.to, b.from, found)
		default:
			t.Logf("%q for %q: %s%s", b.to, b.from, found, b.same)
		}
	}
	fmt.Printf("breaks of the memory: %d\n", len(memoryBreaks))
}

// runOver returns what the proofs say with another memory.go.
func runOver(t *testing.T, here, text string) string {
	dir := t.TempDir()
	other := filepath.Join(dir, "memory.go")
	overlay, _ := json.Marshal(map[string]map[string]string{"Replace": {filepath.Join(here, "memory.go"): other}})
	file := filepath.Join(dir, "overlay.json")
	for name, b := range map[string][]byte{other: []byte(text), file: overlay} {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "go", "test", "-vet=off", "-overlay", file, "-failfast",
		"-run", "TestSmallWorldsKeepEveryInvariant", ".")
	cmd.Env = append(os.Environ(), "AUTHTRIP_EXPLORE=", "GOFLAGS=-buildvcs=false")
	out, err := cmd.CombinedOutput()
	if err == nil {
		return ""
	}
	for line := range strings.Lines(string(out)) {
		if line = strings.TrimSpace(line); strings.Contains(line, ": I") {
			return line
		}
	}
	t.Errorf("does not compile: %s", out)
	return "?"
}
