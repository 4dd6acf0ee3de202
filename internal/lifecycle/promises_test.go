package lifecycle

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// A promise is something that the world around the loop has to keep. breaks is the
// invariant that the shortest story breaks when it is not kept once; "" is none.
type promise struct {
	text   string
	breaks string
	cfg    config
}

var promises = []promise{
	{
		"A refresh, with the saving of its result, is shorter than a span.", "I1",
		config{server: strict, leases: false, budget: budget{shortSpan: 1}.of()},
	},
	{
		"The same, with a lease.", "",
		config{server: strict, leases: true, budget: budget{shortSpan: 1}.of()},
	},
	{
		"A lease lasts as long as the refresh of its holder.", "",
		config{server: strict, leases: true, budget: budget{shortLease: 1}.of()},
	},
	{
		"The same, and the Store loses the marker.", "I2",
		config{server: strict, leases: true, budget: budget{shortLease: 1, lostWrite: 1}.of()},
	},
	{
		"A Store without leases does not lose a write that it has confirmed.", "I1",
		config{server: strict, leases: false, budget: budget{lostWrite: 1}.of()},
	},
	{
		"A Store that has an old record again says so.", "I2",
		config{server: strict, leases: true, budget: budget{silentLoss: 1}.of()},
	},
	{
		"The server's grace period is as long as the program says.", "IE",
		config{server: graceSame, leases: true, budget: budget{shortWindow: 1, lostMessage: 1}.of()},
	},
}

func (p *promise) explore() *search {
	cfg := p.cfg
	cfg.name, cfg.procs, cfg.generations, cfg.limit = p.text, 2, 1, 1e6
	return explore(&cfg, 50)
}

func TestAPromiseThatIsNotKeptBreaksWhatTheProtocolSays(t *testing.T) {
	var page strings.Builder
	page.WriteString("| what is promised | broken once |\n|---|---|\n")
	for _, p := range promises {
		s := p.explore()
		if got, _, _ := strings.Cut(s.bad, ":"); got != p.breaks {
			t.Errorf("%s breaks %q after %d states, not %q\n%s", p.text, s.bad, len(s.marks), p.breaks, s.story())
		}
		says := "nothing breaks"
		if s.bad != "" {
			says = fmt.Sprintf("%s, in %d steps", s.bad, s.depth+1)
		}
		fmt.Fprintf(&page, "| %s | %s |\n", p.text, says)
	}
	holdPage(t, "promises", page.String())
}

// holdPage holds a part of docs/protocol.md, between two comments, to what it says.
func holdPage(t *testing.T, part, want string) {
	t.Helper()
	b, err := os.ReadFile("../../docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(b), "<!-- "+part+" -->\n")
	got, _, ended := strings.Cut(rest, "<!-- end -->")
	if !found || !ended || strings.TrimSpace(got) != strings.TrimSpace(want) {
		t.Errorf("docs/protocol.md has to say under %q:\n%s", part, want)
	}
}
