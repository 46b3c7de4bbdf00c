"""Short texts by domain, written for this project, to compare tokenizers on."""

PROSE = """\
The harbour wakes before the town does. By five the first boats are already out past the breakwater, and the gulls, \
who know the timetable better than anyone, have settled along the roof of the fish market to wait. Nobody here calls \
the sea beautiful; it is simply where work is done. Yet when a stranger once asked old Martha why she still mended \
nets at eighty-three, she looked at him for a while and said: "Because the holes don't mend themselves."

In 1987 the railway closed. People said that the village would be empty within ten years, and for a time it seemed \
they'd be right: the school lost its second teacher, the baker moved to the coast, and the platform grew a fine crop \
of thistles. What nobody expected was that those who stayed would learn to do without the train, and those who had \
left would begin, one by one, to miss the quiet.
"""

CODE = '''\
from collections import Counter


def most_common_words(path: str, count: int = 10) -> list[tuple[str, int]]:
    """The `count` most frequent words of a text file, most frequent first."""
    words = Counter()
    with open(path, encoding="utf-8") as file:
        for line in file:
            words.update(word.strip(".,;:!?").lower() for word in line.split())
    return words.most_common(count)


if __name__ == "__main__":
    for word, occurrences in most_common_words("book.txt"):
        print(f"{word:>12} {occurrences}")

#include <stdio.h>

static int gcd(int a, int b) {
    while (b != 0) {
        int rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

int main(void) {
    printf("gcd(84, 36) = %d\\n", gcd(84, 36));
    return 0;
}

const total = orders
  .filter((order) => order.status !== "cancelled" && order.items.length > 0)
  .reduce((sum, order) => sum + order.price * (1 + order.tax), 0);

SELECT city, COUNT(*) AS people FROM residents WHERE age >= 18 GROUP BY city ORDER BY people DESC LIMIT 20;
'''

MATHS = r"""
Let $f(x) = x^3 - 3x + 1$. Then $f'(x) = 3x^2 - 3 = 3(x - 1)(x + 1)$, so $f$ has a maximum at $x = -1$ with
$f(-1) = 3$ and a minimum at $x = 1$ with $f(1) = -1$. By the intermediate value theorem it has three real roots.

\begin{align}
  \sum_{k=1}^{n} k^2 &= \frac{n(n+1)(2n+1)}{6}, &
  \int_0^\infty e^{-x^2}\,dx &= \frac{\sqrt{\pi}}{2}.
\end{align}

A train covers 372 km in 4.5 hours: 372 / 4.5 = 82.67 km/h. Of 1,250 tickets, 38% were sold on the first day, that
is 0.38 * 1250 = 475, and 1250 - 475 = 775 were left. 17 * 23 = 391; 2^16 = 65536; 3.14159 * 12^2 = 452.39.
∀ε > 0 ∃δ > 0: |x − a| < δ ⇒ |f(x) − f(a)| < ε;  A ∪ (B ∩ C) = (A ∪ B) ∩ (A ∪ C);  ∇·E = ρ/ε₀
"""

OTHER_LANGUAGES = {
    "French": "Le marché ouvre à sept heures, même en hiver. Les paysans apportent des pommes, du fromage de chèvre "
    "et des œufs frais ; on s'y retrouve autant pour parler que pour acheter.",
    "German": "Der Markt öffnet um sieben Uhr, auch im Winter. Die Bauern bringen Äpfel, Ziegenkäse und frische "
    "Eier; man trifft sich dort ebenso sehr zum Reden wie zum Einkaufen.",
    "Spanish": "El mercado abre a las siete, también en invierno. Los campesinos traen manzanas, queso de cabra y "
    "huevos frescos; la gente va allí tanto para hablar como para comprar. ¿Quién no lo haría?",
    "Russian": "Рынок открывается в семь часов, даже зимой. Крестьяне привозят яблоки, козий сыр и свежие яйца; сюда "
    "приходят не только за покупками, но и поговорить.",
    "Greek": "Η αγορά ανοίγει στις επτά, ακόμα και τον χειμώνα. Οι αγρότες φέρνουν μήλα, κατσικίσιο τυρί και φρέσκα "
    "αυγά.",
    "Arabic": "يفتح السوق في الساعة السابعة حتى في الشتاء. يجلب الفلاحون التفاح وجبن الماعز والبيض الطازج.",
    "Hindi": "बाज़ार सर्दियों में भी सात बजे खुलता है। किसान सेब, पनीर और ताज़े अंडे लाते हैं।",
    "Chinese": "市场早上七点开门，冬天也是如此。农民们带来苹果、山羊奶酪和新鲜鸡蛋，"
    "人们来这里既是为了买东西，也是为了聊天。",
    "Japanese": "市場は冬でも朝七時に開きます。農家の人たちがりんごや山羊のチーズ、新鮮な卵を持ってきます。",
    "Korean": "시장은 겨울에도 아침 일곱 시에 문을 엽니다. 농부들은 사과와 염소 치즈, 신선한 달걀을 가져옵니다.",
}

DOMAINS = {"prose": PROSE, "code": CODE, "maths": MATHS, "other languages": "\n".join(OTHER_LANGUAGES.values())}
