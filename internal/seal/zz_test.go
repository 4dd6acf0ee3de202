package seal_test
import ("testing";"fmt";"example.com/authtrip/internal/seal")
func TestZZ(t *testing.T){ b:=sealed(t, seal.Sealer{Label:"test",Keys:[][]byte{key(1)}},"alice","secret"); s:=""; for _,c:=range b { s+=fmt.Sprintf("\\x%02x",c)}; fmt.Println("FIX",s)}
